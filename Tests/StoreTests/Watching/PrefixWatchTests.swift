import NIOCore
import Store
import TestSupport
import Testing

@Suite("A watch of 10,000 keys at a millisecond a call")
struct PrefixWatchTests {
    private static let keys = 10_000
    private static let second: UInt64 = 1_000_000_000

    /// Returns a prefix whose first round is finished and has been reported.
    private func settled() throws -> WatchedPrefix {
        let prefix = try WatchedPrefix(keys: Self.keys)
        #expect(try prefix.run(seconds: 60) { prefix.reported.count == Self.keys })
        try prefix.run(seconds: 3)
        prefix.clearReports()
        return prefix
    }

    @Test("The first round reports every key once, without a pause")
    func first() throws {
        let prefix = try WatchedPrefix(keys: Self.keys)
        let began = prefix.now
        #expect(try prefix.run(seconds: 60) { prefix.reported.count == Self.keys })
        #expect(Set(prefix.reported.map(\.change.key)).count == Self.keys)
        // Four calls a key, and the polls in between.
        #expect(prefix.now - began < 45 * Self.second)
        // The round is finished, and no key is reported again.
        try prefix.run(seconds: 10)
        #expect(prefix.reported.count == Self.keys && prefix.watch.isCurrent)
        #expect(prefix.longest < Self.second)
    }

    @Test("The names are listed after the first hints, so that the first pass is one round, with any number of readers")
    func order() throws {
        let prefix = try WatchedPrefix(keys: 32)
        prefix.watch.poll()
        let hints = try #require(prefix.watch.nextPart())
        #expect(prefix.watch.nextPart() == nil)
        prefix.finish(hints)
        prefix.readParts(pausing: 0)
        #expect(prefix.reported.count == 32 && prefix.watch.isComplete && prefix.watch.isCurrent)
    }

    @Test("A poll while the names are listed does not take the urgency from the first round")
    func pollWhileListing() throws {
        let prefix = try WatchedPrefix(keys: 200)
        prefix.watch.poll()
        prefix.finish(try #require(prefix.watch.nextPart()))
        let names = try #require(prefix.watch.nextPart())
        prefix.watch.poll()
        prefix.finish(try #require(prefix.watch.nextPart()))
        #expect(prefix.watch.nextPart() == nil)
        prefix.finish(names)
        var parts: [WatchPart] = []
        while let part = prefix.watch.nextPart() { parts.append(part) }
        #expect(parts.map(\.keys.count).reduce(0, +) == 200)
        for part in parts { prefix.finish(part) }
        #expect(prefix.watch.isComplete && prefix.watch.isCurrent && prefix.reported.count == 200)
    }

    @Test("The pause after a round's slice does not grow by the time for which a call hung")
    func hangingSlice() throws {
        let prefix = try WatchedPrefix(keys: 32)
        #expect(try prefix.run(seconds: 5) { prefix.watch.isComplete })
        try prefix.run(seconds: 3)
        prefix.clearReports()
        prefix.at(prefix.now + 12_000_000) { prefix.hang(seconds: 4) }
        try prefix.run(seconds: 6)
        let hung = try #require(prefix.reported.last?.change)
        prefix.clearReports()
        for number in 0..<32 { prefix.put(number, version: 2) }
        try prefix.run(seconds: 8)
        #expect(prefix.reported.count == 31 && !prefix.reported.contains { $0.change.key == hung.key })
    }

    @Test("A value that hangs delays no other key")
    func hanging() throws {
        let prefix = try settled()
        prefix.put(77, version: 2)
        prefix.hint(77)
        prefix.watch.poll()
        prefix.finish(try #require(prefix.watch.nextPart()))
        let part = try #require(prefix.watch.nextPart())
        for number in [77, 78] {
            prefix.put(number, version: 3)
            prefix.hint(number)
        }
        try prefix.run(seconds: 2)
        #expect(prefix.reported.map(\.change) == [WatchedPrefix.change(78, version: 3)] && !prefix.watch.isCurrent)
        prefix.finish(part)
        try prefix.run(seconds: 2)
        #expect(prefix.reported.last?.change == WatchedPrefix.change(77, version: 3) && prefix.watch.isCurrent)
    }

    @Test("The first round is complete when its last part was read, however long that takes")
    func slowParts() throws {
        let prefix = try WatchedPrefix(keys: 200)
        prefix.readParts(pausing: 2 * Self.second)
        #expect(prefix.reported.count == 200 && prefix.watch.isComplete)
    }

    @Test("Changes that never stop do not keep the first pass from its end")
    func endlessChanges() throws {
        let prefix = try WatchedPrefix(keys: 1_000)
        for poll in 0..<60 where !prefix.watch.isComplete {
            for number in 0..<70 { prefix.hint((poll * 70 + number) % 1_000) }
            prefix.watch.poll()
            // The hints, the names, and the keys of two parts.
            for _ in 0..<4 { prefix.watch.nextPart().map { prefix.finish($0) } }
        }
        #expect(prefix.watch.isComplete && !prefix.watch.isCurrent)
        #expect(Set(prefix.reported.map(\.change.key)).count == 1_000)
    }

    @Test("A hinted change is reported within two seconds, during the first round too", arguments: [false, true])
    func hinted(_ isSettled: Bool) throws {
        var random = SeededGenerator(seed: 3)
        let prefix = try isSettled ? settled() : WatchedPrefix(keys: Self.keys)
        if !isSettled { try prefix.run(seconds: 1) }
        for version in 2...40 as ClosedRange<UInt64> {
            let number = Int(random.next() % UInt64(Self.keys))
            let moment = prefix.now + random.next() % (isSettled ? 15 * Self.second : Self.second / 3)
            prefix.at(moment) {
                prefix.put(number, version: version)
                prefix.hint(number)
            }
            let change = WatchedPrefix.change(number, version: version)
            #expect(try prefix.run(seconds: 40) { prefix.reported.contains { $0.change == change } })
            let at = prefix.reported.first { $0.change == change }?.at ?? .max
            #expect(at - moment < 2 * Self.second, "version \(version) of \(number)")
        }
    }

    @Test("An enqueued key is inspected by the next poll; thousands of them within a few seconds")
    func announced() throws {
        let prefix = try settled()
        prefix.put(77, version: 2)
        prefix.watch.enqueue(WatchedPrefix.key(77))
        _ = try prefix.run(seconds: 1)
        #expect(prefix.reported.map(\.change.key) == [WatchedPrefix.key(77)])
        for number in 1_000..<3_000 {
            prefix.put(number, version: 2)
            prefix.watch.enqueue(WatchedPrefix.key(number))
        }
        let began = prefix.now
        #expect(try prefix.run(seconds: 20) { prefix.reported.count == 2_001 })
        #expect(prefix.now - began < 10 * Self.second)
    }

    @Test("Changes without a hint are all found within a round, and rounds take a tenth of the time")
    func unhinted() throws {
        let prefix = try settled()
        let changed = stride(from: 0, to: Self.keys, by: 97).map { $0 }
        let began = prefix.now
        for number in changed { prefix.put(number, version: 2) }
        for number in 0..<5 { prefix.put(Self.keys + number, version: 1) }
        // A round of 20 s of calls takes a little more than 200 s; keys that it has already passed wait for the next.
        #expect(try prefix.run(seconds: 600) { prefix.reported.count == changed.count + 5 })
        #expect(Set(prefix.reported.map(\.change.key)).count == changed.count + 5)
        try prefix.run(seconds: 300)
        #expect(Double(prefix.busy) < 0.11 * Double(prefix.now - began))
        #expect(prefix.reported.count == changed.count + 5)
    }

    @Test("Hints that are missed with every poll delay nothing: every key is inspected from then on")
    func missedHints() throws {
        let prefix = try settled()
        // A change of the first and of the last key of a round.
        for number in [1, 5_000, 9_999] { prefix.put(number, version: 2) }
        var hinted = 0
        let began = prefix.now
        let isFound = try prefix.run(seconds: 100) {
            for _ in 0..<70 {
                prefix.hint(hinted % 50)
                hinted += 1
            }
            return prefix.reported.count == 3
        }
        #expect(isFound)
        #expect(prefix.now - began < 40 * Self.second)
    }

    @Test("The poll that finds that hints were missed inspects all keys")
    func roundAfterMissedHints() throws {
        let prefix = try settled()
        prefix.put(3, version: 2)
        for _ in 0..<70 { prefix.hint(3) }
        prefix.watch.poll()
        while let part = prefix.watch.nextPart() { prefix.finish(part) }
        #expect(prefix.reported.map(\.change) == [WatchedPrefix.change(3, version: 2)])
    }

    @Test("A folder counts as removed after two lookups that do not find it, and never if it returns in between")
    func removed() throws {
        let prefix = try settled()
        for number in [10, 20] {
            prefix.removeFolder(number)
            prefix.watch.enqueue(WatchedPrefix.key(number))
        }
        try prefix.run(seconds: 1)
        #expect(prefix.reported.isEmpty)
        prefix.put(20, version: 1)
        try prefix.run(seconds: 10)
        #expect(prefix.reported.map(\.change) == [WatchedPrefix.change(10, version: nil)])
    }

    @Test("A problem of a key stays known until the key can be read, and thousands of them do not delay other keys")
    func problems() throws {
        let prefix = try settled()
        let bad = 0..<2_000
        for number in bad { prefix.server.find(WatchedPrefix.key(number).path)?.mode = 0o777 }
        #expect(try prefix.run(seconds: 3_000) { prefix.watch.problems.count == bad.count })
        prefix.put(5_000, version: 2)
        prefix.hint(5_000)
        let began = prefix.now
        #expect(try prefix.run(seconds: 10) { prefix.reported.contains { $0.change.key == WatchedPrefix.key(5_000) } })
        #expect(prefix.now - began < 2 * Self.second)
        prefix.put(6_000, version: 2)
        #expect(
            try prefix.run(seconds: 3_000) { prefix.reported.contains { $0.change.key == WatchedPrefix.key(6_000) } }
        )
        #expect(prefix.watch.problems.count == bad.count)
        for number in bad { prefix.server.find(WatchedPrefix.key(number).path)?.mode = 0o700 }
        #expect(try prefix.run(seconds: 100) { prefix.watch.problems.isEmpty })
    }
}
