import Foundation
import Glibc
import Store
import TestSupport

/// The server of a simulated network file system: the state that all clients see, and the part of it that would survive
/// a power loss.
final class SimulatedVolume: @unchecked Sendable {
    final class Node {
        let number: UInt64
        let isFolder: Bool
        var mode: UInt32
        /// The contents or entries that a client gets from the server.
        var data: [UInt8] = []
        var entries: [String: UInt64] = [:]
        /// The contents or entries after a power loss.
        var durableData: [UInt8] = []
        var durableEntries: [String: UInt64] = [:]

        init(number: UInt64, isFolder: Bool) {
            self.number = number
            self.isFolder = isFolder
            mode = isFolder ? 0o700 : 0o600
        }
    }

    /// The faults, each with its probability per call.
    struct Faults {
        /// The call succeeds, its reply is lost, and the repeated call finds the effect of the first.
        var lostReply = 0.0
        /// EIO, ESTALE or ETIMEDOUT without an effect.
        var failure = 0.0
        /// EIO although the call took effect.
        var failureAfter = 0.0
        /// fsync fails with EIO and drops the unwritten bytes.
        var failedSync = 0.0
        var shortTransfer = 0.0
        /// The longest time in seconds for which listings and names are cached.
        var cacheSeconds = 0.0
        /// The probability that a listing is cached.
        var cached = 0.0
        /// A call hangs, for at most `hangSeconds`.
        var hang = 0.0
        var hangSeconds = 20.0

        /// A healthy network file system, which only caches.
        static let caching = Faults(cacheSeconds: 60, cached: 0.5)
    }

    let lock = NSRecursiveLock()
    var faults = Faults()
    var isFull = false
    var isReadOnly = false
    /// Whether the store is unmounted, so that its folder is missing.
    var isUnmounted = false
    var random: SeededGenerator
    /// Returns the time in nanoseconds on the clients' clock.
    let now: @Sendable () -> UInt64
    private(set) var nodes: [UInt64: Node] = [:]
    private var lastNumber: UInt64 = 1
    private var counts: [UInt64: Int] = [:]

    static let root: UInt64 = 1

    init(seed: UInt64, now: @escaping @Sendable () -> UInt64) {
        random = SeededGenerator(seed: seed)
        self.now = now
        nodes[Self.root] = Node(number: Self.root, isFolder: true)
    }

    func node(_ number: UInt64) -> Node? { nodes[number] }

    func make(isFolder: Bool) -> Node {
        lastNumber += 1
        let node = Node(number: lastNumber, isFolder: isFolder)
        nodes[lastNumber] = node
        return node
    }

    /// Returns the number of names of a node.
    func links(of number: UInt64) -> Int { counts[number] ?? 0 }

    /// Adds, replaces or removes a name.
    func set(_ folder: Node, _ name: String, _ number: UInt64?) {
        if let old = folder.entries[name] { counts[old, default: 0] -= 1 }
        if let number { counts[number, default: 0] += 1 }
        folder.entries[name] = number
    }

    /// Returns the server's node of a path.
    func find(_ path: String) -> Node? {
        var node = nodes[Self.root]
        for name in path.split(separator: "/") { node = node?.entries[String(name)].flatMap { nodes[$0] } }
        return node
    }

    /// Makes the names in a folder durable. Names that were renamed into it leave the durable state of their old
    /// folder.
    func sync(_ folder: Node) {
        let news = folder.entries.filter { folder.durableEntries[$0.key] != $0.value }
        folder.durableEntries = folder.entries
        for (_, number) in news {
            for other in nodes.values where other.isFolder && other !== folder {
                for (name, entry) in other.durableEntries where entry == number && other.entries[name] != number {
                    other.durableEntries[name] = nil
                }
            }
        }
    }

    /// Simulates a power loss: each block and each name that was not durable either survives or does not.
    func losePower() {
        for node in nodes.values {
            if node.isFolder {
                var survivors = node.durableEntries
                for name in Set(node.entries.keys).union(node.durableEntries.keys)
                where node.entries[name] != node.durableEntries[name] && random.chance(0.5) {
                    survivors[name] = node.entries[name]
                }
                for name in Set(node.entries.keys).union(survivors.keys) { set(node, name, survivors[name]) }
                node.durableEntries = survivors
            } else if node.data != node.durableData {
                node.data = torn(old: node.durableData, new: node.data)
                node.durableData = node.data
            }
        }
    }

    private func torn(old: [UInt8], new: [UInt8]) -> [UInt8] {
        // A synced file keeps its length, unless it was truncated since.
        let (least, most) = (min(new.count, old.count), max(new.count, old.count))
        let size = least + Int(random.next() % UInt64(most - least + 1))
        var result = [UInt8](repeating: 0, count: size)
        for start in stride(from: 0, to: size, by: 512) {
            let source = random.chance(0.5) ? new : old
            for index in start..<min(start + 512, size) where index < source.count { result[index] = source[index] }
        }
        return result
    }

    // MARK: Tampering

    /// Changes a file without a call of any client.
    func tamper(_ path: String, _ change: (inout [UInt8]) -> Void) {
        guard let node = find(path), !node.isFolder else { return }
        change(&node.data)
        node.durableData = node.data
    }

    /// Adds a file without a call of any client.
    func addFile(_ path: String, _ bytes: [UInt8]) {
        guard let slash = path.lastIndex(of: "/"), let folder = find(String(path[..<slash])) else { return }
        let node = make(isFolder: false)
        node.data = bytes
        node.durableData = bytes
        let name = String(path[path.index(after: slash)...])
        set(folder, name, node.number)
        folder.durableEntries[name] = node.number
    }
}
