import Dispatch
import Foundation
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

/// One process of a cluster on a shared folder: a member that observes the others.
private final class Process: Sendable {
    let store: VolumeStore
    let member: any StoreMember
    private let events = Mutex(Events())
    private let observation = Mutex<MemberObservation?>(nil)

    struct Events {
        var listed: [Incarnation]?
        var infos: [Incarnation: [UInt8]] = [:]
        var seen: [Incarnation: Mark] = [:]
        var moved: [Incarnation: Int] = [:]
        var statuses: [Incarnation: MemberStatus] = [:]
        var rows: [Incarnation: JournalTable] = [:]
        var problems: [Incarnation: StoreError] = [:]
        var gone: [Incarnation] = []
    }

    init(_ volume: Volume) async throws {
        store = VolumeStore(volume: volume)
        member = try await store.join(
            JoinOptions(incarnation: { randomIncarnation() }, info: { bytes("card of \($0)") })
        )
        let observation = store.observeMembers { [weak self] event in self?.record(event) }
        self.observation.withLock { $0 = observation }
    }

    var seen: Events { events.withLock { $0 } }

    func close() { store.close() }

    private func record(_ event: MemberEvent) {
        events.withLock { events in
            switch event {
            case .listed(let members): events.listed = members
            case .joined(let member, .success(let info)): events.infos[member] = info
            case .joined(let member, .failure(let error)): events.problems[member] = error
            case .status(let member, let status, let seen, _):
                events.statuses[member] = status
                events.seen[member] = seen
                events.moved[member, default: 0] += 1
            case .rows(let member, let changes): events.rows[member, default: JournalTable()].apply(changes)
            case .problem(let member, let problem): events.problems[member] = problem
            case .gone(let member):
                events.gone.append(member)
                events.rows[member] = nil
            }
        }
    }
}

@Suite("Members of a cluster on a shared folder", .timeLimit(.minutes(2)))
struct MemberTests {
    let scratch = ScratchFolder()

    /// A further file system and volume on the folder, as another process has them.
    private func volume() throws -> Volume { try scratch.volume() }

    @Test("A member publishes what it is, its status and its rows to the others, and sees nothing of itself")
    func rows() async throws {
        let (first, second) = (try await Process(volume()), try await Process(volume()))
        defer { for process in [first, second] { process.close() } }
        let name = first.member.incarnation
        try first.member.put(key: [1], value: bytes("one"))
        try first.member.put(key: [2], value: bytes("two"))
        try first.member.remove(key: [1])
        first.member.update { $0 = MemberStatus(state: .active, sessions: 7, load: 9) }
        try await first.member.flush()
        try await eventually { second.seen.rows[name]?.rows == [[2]: bytes("two")] }
        try await eventually { second.seen.statuses[name] == MemberStatus(state: .active, sessions: 7, load: 9) }
        #expect(second.seen.infos[name] == bytes("card of \(name)"))
        #expect(second.seen.infos[second.member.incarnation] == nil)
        try first.member.put(key: [3], value: bytes("three"))
        try await eventually { second.seen.rows[name]?.rows == [[2]: bytes("two"), [3]: bytes("three")] }
    }

    @Test("A row that is too large is refused with an error")
    func sizes() async throws {
        let process = try await Process(volume())
        defer { process.close() }
        let (key, value) = ([UInt8](repeating: 1, count: 255), [UInt8](repeating: 2, count: 32_768))
        try process.member.put(key: key, value: value)
        #expect(code { try process.member.put(key: key + [1], value: value) } == .tooLarge)
        #expect(code { try process.member.put(key: key, value: value + [2]) } == .tooLarge)
    }

    @Test("A live member that is archived returns under a new name with all its rows")
    func archived() async throws {
        let (first, second) = (try await Process(volume()), try await Process(volume()))
        defer { for process in [first, second] { process.close() } }
        let before = first.member.incarnation
        try first.member.put(key: [1], value: bytes("one"))
        try await eventually { second.seen.rows[before]?.rows.count == 1 }
        try await second.store.archive(before)
        try first.member.put(key: [2], value: bytes("two"))
        try await eventually { first.member.incarnation != before }
        let after = first.member.incarnation
        try await eventually { second.seen.gone == [before] }
        try await eventually { second.seen.rows[after]?.rows == [[1]: bytes("one"), [2]: bytes("two")] }
        #expect(second.seen.infos[after] == bytes("card of \(after)"))
        #expect(await code { try await second.store.archive(randomIncarnation()) } == .notFound)
    }

    @Test(
        "A member whose journal was deleted or replaced by hand returns under a new name with all its rows",
        arguments: [true, false]
    )
    func lostJournal(_ isDeleted: Bool) async throws {
        let (first, second) = (try await Process(volume()), try await Process(volume()))
        defer { for process in [first, second] { process.close() } }
        let before = first.member.incarnation
        try first.member.put(key: [1], value: bytes("one"))
        try await eventually { second.seen.rows[before]?.rows.count == 1 }
        for name in scratch.names("v2/replicas/\(before)") where name.hasSuffix(".log") {
            let path = scratch.file("v2/replicas/\(before)/\(name)")
            try FileManager.default.removeItem(atPath: path)
            if !isDeleted { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false) }
        }
        try first.member.put(key: [2], value: bytes("two"))
        try await eventually { first.member.incarnation != before }
        let after = first.member.incarnation
        try await eventually { second.seen.rows[after]?.rows == [[1]: bytes("one"), [2]: bytes("two")] }
        try await eventually { first.store.state == .healthy }
    }

    @Test("A member states that it has seen a change when all its watches have delivered it, and not before")
    func marks() async throws {
        let (first, second) = (try await Process(volume()), try await Process(volume()))
        defer { for process in [first, second] { process.close() } }
        let reader = second.member.incarnation
        let delivered = Mutex<[StoreKey]>([])
        let turnstile = DispatchSemaphore(value: 0)
        let watch = second.store.watch(.below("acme/challenges")) { batch in
            guard !batch.changes.isEmpty else { return [] }
            guard turnstile.wait(timeout: DispatchTime.now() + .seconds(30)) == .success else { return [] }
            turnstile.signal()
            delivered.withLock { $0 += batch.changes.map(\.key) }
            return []
        }
        defer { watch.cancel() }
        try await eventually { first.seen.moved[reader] != nil && second.seen.moved[first.member.incarnation] != nil }
        #expect(first.store.settledRemovals(now: .now(), true) == nil)
        try await first.store.write("acme/challenges/a", .create([1]))
        try await first.store.write("acme/challenges/b", .create([1]))
        let mark = first.member.mark
        let moved = first.seen.moved[reader] ?? 0
        // The reader's heartbeats arrive, but do not cover the mark while a delivery is under way.
        try await eventually { first.seen.moved[reader] ?? 0 >= moved + 3 }
        #expect(first.seen.seen[reader]?.covers(mark) == false)
        let removed = NIODeadline.now()
        #expect(first.store.settledRemovals(now: removed, true) != removed)
        #expect(first.store.settledRemovals(now: removed, false) == nil)
        turnstile.signal()
        try await eventually { first.seen.seen[reader]?.covers(mark) == true }
        #expect(Set(delivered.withLock { $0 }) == ["acme/challenges/a", "acme/challenges/b"])
        try await eventually { first.store.settledRemovals(now: .now(), false) == removed }
    }

    @Test(
        "A value that hangs or cannot be read, or hints that hang, keep a member from no mark for long",
        arguments: ["agents/bad/1.json", "agents/.changes", ""]
    )
    func marksBesideProblems(_ hanging: String) async throws {
        let first = try await Process(volume())
        try await first.store.write("agents/bad", .create([1]))
        try await first.store.write("agents/good", .create([1]))
        let files = HangingFileSystem(files: try PosixFileSystem(path: scratch.file("v2"), creating: false))
        if hanging.isEmpty {
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o666],
                ofItemAtPath: scratch.file("v2/agents/bad/1.json")
            )
        } else {
            files.gate.hang(true, at: hanging)
        }
        let second = try await Process(Volume(files: files))
        defer {
            files.gate.hang(false)
            for process in [first, second] { process.close() }
        }
        let values = WatchedValues<StoredValue, StoreError> { $1 }
        let challenges = WatchedValues<StoredValue, StoreError> { $1 }
        values.watch(second.store, .below("agents")) { _ in }
        challenges.watch(second.store, .below("acme/challenges")) { _ in }
        for number in 0..<3 {
            try await first.store.write(StoreKey("acme/challenges/c\(number)"), .create([1]))
            let mark = first.member.mark
            try await eventually { first.seen.seen[second.member.incarnation]?.covers(mark) == true }
            #expect(challenges["c\(number)"] != nil && values["good"] != nil)
        }
        guard hanging != "agents/.changes" else { return }
        let problem = values.entries["bad"]?.problem
        #expect(
            problem?.code == (hanging.isEmpty ? .refused : .stalled) && problem?.place.contains("agents/bad") == true
        )
    }

    @Test("A prefix that does not exist at the start: its first key, a replacement and a removal arrive within 2 s")
    func missingPrefix() async throws {
        let (first, second) = (VolumeStore(volume: try volume()), VolumeStore(volume: try volume()))
        defer { for store in [first, second] { store.close() } }
        let newest = Mutex<(content: WatchedChange.Content, at: NIODeadline)?>(nil)
        let isComplete = Atomic(false)
        let watch = second.watch(.below("acme/challenges")) { batch in
            if batch.isComplete { isComplete.store(true, ordering: .relaxed) }
            if let change = batch.changes.last { newest.withLock { $0 = (change.content, .now()) } }
            return []
        }
        defer { watch.cancel() }
        try await eventually { isComplete.load(ordering: .relaxed) }
        let steps: [(ValueWrite, WatchedChange.Content)] = [
            (.create([1]), .value(StoredValue(bytes: [1], version: 1))),
            (.replace(1, [2]), .value(StoredValue(bytes: [2], version: 2))),
            (.remove(2), .removed(version: 3)),
        ]
        for (write, content) in steps {
            try await first.write("acme/challenges/a", write)
            let written = NIODeadline.now()
            try await eventually("\(content)") { newest.withLock { $0?.content } == content }
            #expect(newest.withLock { ($0?.at ?? .distantFuture) - written } < .seconds(2))
        }
    }

    @Test(
        "A member whose heartbeat or card hangs delays no other, and one thread waits for it",
        arguments: ["hb", "card"]
    )
    func hanging(_ file: String) async throws {
        let (first, second) = (try await Process(volume()), try await Process(volume()))
        let hung = second.member.incarnation
        let files = HangingFileSystem(files: try PosixFileSystem(path: scratch.file("v2"), creating: false))
        files.gate.hang(true, at: "replicas/\(hung)/\(file)")
        let observer = try await Process(Volume(files: files))
        defer {
            files.gate.hang(false)
            for process in [first, second, observer] { process.close() }
        }
        let name = first.member.incarnation
        try await eventually { observer.seen.problems[hung]?.code == .stalled }
        // The other member is seen at every heartbeat, and so are new ones.
        let third = try await Process(volume())
        defer { third.close() }
        let moved = observer.seen.moved[name] ?? 0
        try await eventually { observer.seen.moved[name] ?? 0 >= moved + 5 }
        try await eventually { observer.seen.moved[third.member.incarnation] ?? 0 >= 2 }
        #expect(files.gate.waitingCount == 1)
        files.gate.hang(false)
        try await eventually { observer.seen.problems[hung] == nil && observer.seen.moved[hung] ?? 0 >= 2 }
    }

    @Test("An idle member reads one heartbeat of each other one a second, no card, no rows and nothing of its own")
    func idle() async throws {
        let others = [try await Process(volume()), try await Process(volume()), try await Process(volume())]
        for (number, other) in others.enumerated() {
            try await other.store.write(StoreKey("agents/a\(number)"), .create([1]))
            try other.member.put(key: [1], value: [2])
            try await other.member.flush()
        }
        let files = CountingFileSystem(files: try PosixFileSystem(path: scratch.file("v2"), creating: false))
        let idle = try await Process(Volume(files: files))
        let watch = idle.store.watch(.below("agents")) { _ in [] }
        defer {
            watch.cancel()
            for process in others + [idle] { process.close() }
        }
        let names = others.map(\.member.incarnation)
        try await eventually { names.allSatisfy { idle.seen.moved[$0] ?? 0 >= 3 && idle.seen.rows[$0] != nil } }
        let before = idle.seen.moved
        files.counts.reset()
        try await eventually { names.allSatisfy { idle.seen.moved[$0] ?? 0 >= (before[$0] ?? 0) + 8 } }
        let counts = files.counts.all
        let beats = names.map { (idle.seen.moved[$0] ?? 0) - (before[$0] ?? 0) }.max() ?? 0
        for name in names {
            let opened = counts.filter { $0.key.hasPrefix("open replicas/\(name)/") }
            #expect(Set(opened.keys) == ["open replicas/\(name)/hb"])
            #expect(opened.values.reduce(0, +) <= 2 * beats)
        }
        let own = counts.filter { $0.key.contains("\(idle.member.incarnation)") && $0.key.contains("card") }
        #expect(own.isEmpty)
        let total = counts.values.reduce(0, +)
        print("NOTE \(total) calls in \(beats) heartbeats with 3 others and 3 keys")
        #expect(total <= 20 * beats)
    }
}
