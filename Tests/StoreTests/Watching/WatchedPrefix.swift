import Foundation
import NIOCore
import Store
import TestSupport

/// A watch of a prefix with many keys, on a volume whose calls take a millisecond each of a clock that nothing else
/// advances. It is polled as a gateway does: once a second, and again at once when the watch asks for it.
final class WatchedPrefix: @unchecked Sendable {
    static let prefix: StoreKey = "agents"

    let server: SimulatedVolume
    private(set) var watch: PrefixWatch!
    private let clock = TestClock()
    /// The simulated time in nanoseconds.
    var now: UInt64 { clock.now.uptimeNanoseconds }
    /// The total duration of all parts, and that of the longest.
    private(set) var busy: UInt64 = 0
    private(set) var longest: UInt64 = 0
    /// The reported changes, and when they were reported.
    private(set) var reported: [(change: WatchedChange, at: UInt64)] = []
    private var hints = 0
    private var interruption: (at: UInt64, body: () throws -> Void)?

    init(keys: Int) throws {
        let clock = clock
        server = SimulatedVolume(seed: 7) { clock.now.uptimeNanoseconds }
        try Volume(files: SimulatedFileSystem(volume: server)).prepare()
        let files = SimulatedFileSystem(volume: server) { [unowned self] in pass() }
        let volume = Volume(files: files, now: clock.reading)
        watch = PrefixWatch(volume: volume, scope: .below(Self.prefix))
        for number in 0..<keys { put(number, version: 1) }
    }

    static func key(_ number: Int) -> StoreKey {
        guard let key = try? prefix.child("k\(number)") else { preconditionFailure("the name is valid") }
        return key
    }

    /// The change to a version, or the removal of a folder.
    static func change(_ number: Int, version: UInt64?) -> WatchedChange {
        let value = version.map { StoredValue(bytes: Array("\($0)".utf8), version: $0) }
        return WatchedChange(key: key(number), content: value.map { .value($0) } ?? .removed(version: nil))
    }

    // MARK: Changes by other processes

    /// Adds a version without a hint.
    func put(_ number: Int, version: UInt64) {
        let folder = server.find(Self.key(number).path) ?? make(in: server.find(Self.prefix.path)!, "k\(number)", true)
        _ = make(in: folder, "\(version).json", false, storedFile(Array("\(version)".utf8)))
    }

    func removeFolder(_ number: Int) {
        server.set(server.find(Self.prefix.path)!, Self.key(number).name, nil)
    }

    /// Adds a hint as a writer does; the newest 64 stay.
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

    /// Runs a closure at the given time, in the middle of a poll if one is running.
    func at(_ moment: UInt64, _ body: @escaping () throws -> Void) { interruption = (moment, body) }

    private func pass() {
        clock.pass(.milliseconds(1))
        guard let (moment, body) = interruption, now >= moment else { return }
        interruption = nil
        try? body()
    }

    /// Lets the call in progress hang, while the watch is polled.
    func hang(seconds: UInt64) {
        for _ in 0..<seconds {
            clock.pass(.seconds(1))
            watch.poll()
        }
    }

    // MARK: Polling

    /// Polls for the given number of seconds, or until the condition holds. Returns whether it holds.
    @discardableResult
    func run(seconds: UInt64, until isDone: () -> Bool = { false }) throws -> Bool {
        let end = now + seconds * 1_000_000_000
        while now < end {
            let began = now
            watch.poll()
            // The parts take the time until the next poll.
            while now < began + 1_000_000_000, let part = watch.nextPart() { finish(part) }
            if isDone() { return true }
            if now < began + 1_000_000_000 { clock.pass(.nanoseconds(Int64(began + 1_000_000_000 - now))) }
            if let (moment, body) = interruption, now >= moment {
                interruption = nil
                try body()
            }
        }
        return false
    }

    /// Reads one part after each poll, as a few threads do on a slow volume, until the first round is complete. Before
    /// each part is read there is a pause in nanoseconds.
    func readParts(pausing pause: UInt64) {
        var parts: [WatchPart] = []
        for _ in 0..<1_000 where !watch.isComplete {
            watch.poll()
            while let part = watch.nextPart() { parts.append(part) }
            clock.pass(.nanoseconds(Int64(pause)))
            finish(parts.removeFirst())
        }
    }

    func finish(_ part: WatchPart) {
        let began = now
        guard let findings = part.read() else { return }
        report(watch.record(findings, of: part))
        busy += now - began
        longest = max(longest, now - began)
    }

    private func report(_ changes: [WatchedChange]) {
        reported += changes.map { ($0, now) }
        watch.finish(changes, rejecting: [])
    }

    func clearReports() { (reported, busy) = ([], 0) }
}
