import ACME
import Certificates
import NIOCore
import Synchronization
import TestSupport
import Testing

@Suite("The presenter for dns-01")
struct DNSPresenterTests {
    private let hook = MemoryHook()
    private let problems = Problems()

    private final class Problems: Sendable {
        private let texts = Mutex<[String]>([])

        var all: [String] { texts.withLock { $0 } }

        func append(_ text: String) { texts.withLock { $0.append(text) } }
    }

    private func presenter(propagation: TimeAmount = .zero) -> DNSPresenter {
        let problems = problems
        return DNSPresenter(hook, propagation: propagation) { problems.append($0.description) }
    }

    @Test("A wildcard and the name below it have two records under one name, and each goes by itself")
    func twoValues() async throws {
        let presenter = presenter()
        let tasks = [hookTask("a.test", "one"), hookTask("a.test", "two")]
        try await presenter.present(tasks)
        #expect(hook.records == ["_acme-challenge.a.test": Set(tasks.map(\.recordValue))])
        // Again, as a successor does it.
        try await presenter.present(tasks)
        await presenter.withdraw([tasks[0]])
        #expect(hook.records == ["_acme-challenge.a.test": [tasks[1].recordValue]])
        await presenter.withdraw(tasks)
        #expect(hook.records == ["_acme-challenge.a.test": []] && problems.all.isEmpty)
    }

    @Test("Other kinds are left to others, and are not waited for")
    func otherKinds() async throws {
        let presenter = presenter(propagation: .hours(1))
        let tasks = [hookTask("a.test", kind: .http01), hookTask("a.test", kind: .tlsALPN01)]
        try await presenter.present(tasks)
        await presenter.withdraw(tasks)
        #expect(hook.records.isEmpty)
    }

    @Test("The first record that cannot be made ends it, with the hook's words")
    func failure() async {
        hook.fail("_acme-challenge.b.test")
        let tasks = ["a.test", "b.test", "c.test"].map { hookTask($0) }
        let presenter = presenter()
        let text = await message { () async throws(PresentationError) in try await presenter.present(tasks) }
        #expect(text == "no _acme-challenge.b.test")
        #expect(Set(hook.records.keys) == ["_acme-challenge.a.test"])
    }

    @Test("A record that cannot be removed is reported, and the others are removed")
    func cleanUpFailure() async throws {
        let tasks = ["a.test", "b.test", "c.test"].map { hookTask($0) }
        let presenter = presenter()
        try await presenter.present(tasks)
        hook.fail("_acme-challenge.b.test")
        await presenter.withdraw(tasks)
        #expect(problems.all == ["no _acme-challenge.b.test"])
        #expect(hook.records.filter { !$0.value.isEmpty }.keys.sorted() == ["_acme-challenge.b.test"])
    }

    @Test("The CA may validate when the propagation time has passed")
    func propagation() async throws {
        let start = NIODeadline.now()
        try await presenter(propagation: .milliseconds(80)).present([hookTask("a.test")])
        #expect(NIODeadline.now() - start >= .milliseconds(80))
    }

    @Test("An abandoned order does not wait for the propagation")
    func cancelled() async throws {
        let presenter = presenter(propagation: .hours(1))
        let hook = hook
        let task = Task {
            await message { () async throws(PresentationError) in try await presenter.present([hookTask("a.test")]) }
        }
        try await eventually { !hook.records.isEmpty }
        task.cancel()
        #expect(await task.value == "the order was abandoned")
    }

    @Test("Hooks are called one after the other, however many orders there are")
    func turns() async {
        let presenter = presenter()
        let failures = await withTaskGroup(of: String.self) { group in
            for number in 0..<40 {
                group.addTask {
                    await message { () async throws(PresentationError) in
                        try await presenter.present([hookTask("n\(number).test")])
                    }
                }
            }
            // Some are cancelled: their turns pass to the others.
            for number in 40..<80 {
                group.addTask {
                    let task = Task { await presenter.withdraw([hookTask("n\(number).test")]) }
                    task.cancel()
                    await task.value
                    return ""
                }
            }
            return await group.reduce(into: []) { $0.append($1) }.filter { !$0.isEmpty }
        }
        #expect(failures.isEmpty && hook.mostRunning == 1)
        #expect(hook.records.filter { !$0.value.isEmpty }.count == 40)
    }

    @Test("Several presenters act as one")
    func combined() async throws {
        let other = MemoryHook()
        let both = CombinedPresenter([presenter(), DNSPresenter(other, propagation: .zero) { _ in }])
        try await both.present([hookTask("a.test")])
        #expect(hook.records == other.records && !hook.records.isEmpty)
        await both.withdraw([hookTask("a.test")])
        #expect(other.records.values.allSatisfy { $0.isEmpty })
    }
}
