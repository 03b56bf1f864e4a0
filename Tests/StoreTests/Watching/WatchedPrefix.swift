import Foundation
import NIOCore
import Store
import TestSupport

/// A watch of a prefix with many keys on a volume of which every call takes a millisecond of a clock that nothing else
/// moves, looked at as a gateway does: once a second, and at once when the watch wants more.
final class WatchedPrefix: @unchecked Sendable {
    static let prefix: StoreKey = "agents"

    let server: SimulatedVolume
    private(set) var watch: PrefixWatch!
    /// Nanoseconds.
    private(set) var now: UInt64 = 1_000_000_000_000
    /// How long the looks took together, and the longest of them.
    private(set) var busy: UInt64 = 0
    private(set) var longest: UInt64 = 0
    /// What was told, and when.
    private(set) var told: [(change: StoreChange, at: UInt64)] = []
    private var hints = 0
    private var interruption: (at: UInt64, body: () throws -> Void)?

    init(keys: Int) throws {
        let clock = Clock()
        server = SimulatedVolume(seed: 7) { clock.now() }
        try Volume(files: SimulatedFileSystem(volume: server)).prepare()
        clock.owner = self
        let files = SimulatedFileSystem(volume: server) { [unowned self] _, _ in pass() }
        let volume = Volume(files: files, now: { .uptimeNanoseconds(clock.now()) })
        watch = PrefixWatch(volume: volume, prefix: Self.prefix)
        for number in 0..<keys { put(number, version: 1) }
    }

    static func key(_ number: Int) -> StoreKey {
        guard let key = try? prefix.child("k\(number)") else { preconditionFailure("a name of ours") }
        return key
    }

    // MARK: What others do

    /// A version that was linked without a hint.
    func put(_ number: Int, version: UInt64) {
        let folder = server.find(Self.key(number).path) ?? make(in: server.find(Self.prefix.path)!, "k\(number)", true)
        _ = make(in: folder, "\(version).json", false)
    }

    func removeFolder(_ number: Int) {
        server.set(server.find(Self.prefix.path)!, Self.key(number).name, nil)
    }

    /// A hint as a writer leaves it; of the old ones 64 stay.
    func hint(_ number: Int) {
        let prefix = server.find(Self.prefix.path)!
        let folder = server.find("\(Self.prefix)/.changes") ?? make(in: prefix, ".changes", true)
        hints += 1
        _ = make(in: folder, "\(hints)", false, Array("\(Self.key(number).name)\nnonce\n".utf8))
        if hints > 64 { server.set(folder, "\(hints - 64)", nil) }
    }

    private func make(
        in folder: SimulatedVolume.Node,
        _ name: String,
        _ isFolder: Bool,
        _ bytes: [UInt8] = []
    ) -> SimulatedVolume.Node {
        let node = server.make(isFolder: isFolder)
        node.data = bytes
        server.set(folder, name, node.number)
        return node
    }

    /// Does something at a moment, in the middle of whatever the watch is doing then.
    func at(_ moment: UInt64, _ body: @escaping () throws -> Void) { interruption = (moment, body) }

    private func pass() {
        now += 1_000_000
        guard let (moment, body) = interruption, now >= moment else { return }
        interruption = nil
        try? body()
    }

    // MARK: Looking

    /// Looks for so many seconds, or until something holds. Returns whether it does.
    @discardableResult
    func run(seconds: UInt64, until isDone: () -> Bool = { false }) throws -> Bool {
        let end = now + seconds * 1_000_000_000
        while now < end {
            let began = now
            let changes = try watch.poll()
            busy += now - began
            longest = max(longest, now - began)
            told += changes.map { ($0, now) }
            if isDone() { return true }
            if !watch.needsImmediatePoll { now = max(began + 1_000_000_000, now) }
            if let (moment, body) = interruption, now >= moment {
                interruption = nil
                try body()
            }
        }
        return false
    }

    func forget() { (told, busy) = ([], 0) }

    /// The clock may be read while the watch is made.
    private final class Clock: @unchecked Sendable {
        weak var owner: WatchedPrefix?
        func now() -> UInt64 { owner?.now ?? 0 }
    }
}
