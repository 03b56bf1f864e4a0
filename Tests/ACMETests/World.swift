import ACME
import Formats
import NIOCore
import SwiftASN1
import Synchronization
import TestSupport
import Testing
import X509

/// A CA, a store, the answers that validators can find, and a clock: all that is there when a leader dies.
final class World {
    let ca: TestCA
    var plan: OrderPlan
    var milliseconds: Int64 = 0
    /// The documents of account and order as the store holds them.
    var account: [UInt8]
    var order: [UInt8]?
    var board: Set<Expected> = []
    /// All challenges that were presented at any time.
    var tasks: Set<ChallengeTask> = []
    var directory: ACMEDirectory?
    var failsPresentation: String?
    /// Whether the CA's documents may name hosts of others, which do not exist.
    var mayNameOthers = false
    /// Whether the HTTP client sends a request a second time, and returns the response to the second one.
    var isRepeated: (ACMERequest) -> Bool = { _ in false }
    var generator: SeededGenerator

    static let start = UnixTime(seconds: 1_800_000_000)
    /// The validators of one world never see another's account.
    static let key = AccountKey()

    init(_ names: [String] = ["a.test"], seed: UInt64 = 1, key: AccountKey = World.key) {
        ca = TestCA(seed: seed)
        generator = SeededGenerator(seed: seed ^ 0x55)
        plan = OrderPlan(
            authority: ACMEAuthority(directory: TestCA.directory, contacts: ["admin@a.test"]),
            names: names.map { CertificateName($0)! },
            challenges: [.http01, .tlsALPN01, .dns01]
        )
        account = AccountRecord(directory: TestCA.directory, key: key).json
        ca.validators = { [unowned self] in board.contains($0) }
    }

    var now: Instant {
        Instant(
            uptime: .uptimeNanoseconds(UInt64(milliseconds + 1) * 1_000_000),
            wall: Self.start + milliseconds / 1_000
        )
    }

    enum Outcome: Equatable {
        case issued(IssuedCertificate)
        case accountReady
        case failed(ACMEFailure)
        /// The leader died, before or after it had performed the last action.
        case crashed
    }

    enum Crash {
        /// The leader died after this many actions, before the next one was performed.
        case before(Int)
        /// The leader died after this many actions, of which the last was performed and not reported.
        case after(Int)

        var count: Int {
            switch self {
            case .before(let count), .after(let count): count
            }
        }
    }

    func makeMachine() throws -> OrderMachine {
        let random = Shared(generator.next())
        return OrderMachine(
            plan,
            account: try AccountRecord(json: account, place: "account"),
            directory: directory,
            resuming: try order.map { try OrderRecord(json: $0, place: "order") },
            random: { random.next() }
        )
    }

    /// One leader from its start to its end.
    ///
    /// - Parameter limit: actions; a machine that does more than that does not end.
    func lead(_ crash: Crash? = nil, limit: Int = 3_000) throws -> Outcome {
        var machine = try makeMachine()
        var action = machine.start(now: now)
        for count in 0..<limit {
            if case .before(count) = crash { return .crashed }
            let isLast = if case .after(count) = crash { true } else { false }
            milliseconds += 20 + Int64(generator.next() % 60)
            switch action {
            case .send(let request):
                guard request.url.text.hasPrefix(TestCA.host) else {
                    #expect(mayNameOthers, "\(request.url)")
                    action = machine.requestFailed("there is no such host", now: now)
                    continue
                }
                if isRepeated(request) { _ = ca.answer(request, now: now.wall) }
                let response = ca.answer(request, now: now.wall)
                if isLast { return .crashed }
                action =
                    response.map { machine.received($0, now: now) }
                    ?? machine.requestFailed("the connection was cut", now: now)
            case .wait(let until):
                #expect(until >= now.uptime - .milliseconds(80))
                #expect(until < now.uptime + ACMELimits.longestOrderTime)
                milliseconds = max(milliseconds, Int64(until.uptimeNanoseconds / 1_000_000))
                if isLast { return .crashed }
                action = machine.waited(now: now)
            case .storeAccount(let record):
                account = record.json
                if isLast { return .crashed }
                action = machine.stored(now: now)
            case .storeOrder(let record):
                order = record.json
                if isLast { return .crashed }
                action = machine.stored(now: now)
            case .present(let tasks):
                if let reason = failsPresentation {
                    action = machine.presentationFailed(reason, now: now)
                    continue
                }
                board.formUnion(tasks.map { Expected($0) })
                self.tasks.formUnion(tasks)
                if isLast { return .crashed }
                action = machine.presentationDone(now: now)
            case .cleanUp(let tasks):
                #expect(Set(tasks) == Set(machine.presented))
                board.subtract(tasks.map { Expected($0) })
                if isLast { return .crashed }
                action = machine.cleanedUp(now: now)
            case .issued(let certificate):
                order = nil
                return .issued(certificate)
            case .accountReady: return .accountReady
            case .failed(let failure):
                if !failure.keepsOrder { order = nil }
                #expect(machine.presented.isEmpty)
                return .failed(failure)
            }
        }
        Issue.record("the machine does not end")
        return .crashed
    }

    /// Leads the order like ``lead(_:limit:)`` and records an issue unless a certificate is issued.
    func issue(sourceLocation: SourceLocation = #_sourceLocation) throws -> IssuedCertificate {
        let outcome = try lead()
        guard case .issued(let certificate) = outcome else {
            Issue.record("no certificate: \(outcome)", sourceLocation: sourceLocation)
            throw NoCertificate()
        }
        return certificate
    }

    /// Leads the order like ``lead(_:limit:)`` and records an issue unless it fails.
    func failure(sourceLocation: SourceLocation = #_sourceLocation) throws -> ACMEFailure {
        let outcome = try lead()
        guard case .failed(let failure) = outcome else {
            Issue.record("no failure: \(outcome)", sourceLocation: sourceLocation)
            throw NoCertificate()
        }
        return failure
    }

    struct NoCertificate: Error {}
}

/// A generator that a machine may keep.
final class Shared: Sendable {
    private let generator: Mutex<SeededGenerator>

    init(_ seed: UInt64) {
        generator = Mutex(SeededGenerator(seed: seed))
    }

    func next() -> UInt64 { generator.withLock { $0.next() } }
}

/// Checks that the private key belongs to the leaf, and that the facts are the leaf's.
func expectFittingKey(_ issued: IssuedCertificate, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let leaf = try Certificate(pemDocument: try #require(issued.documents.first, sourceLocation: sourceLocation))
    let key = try Certificate.PrivateKey(pemDocument: issued.key)
    #expect(leaf == issued.chain.first, sourceLocation: sourceLocation)
    #expect(leaf.publicKey == key.publicKey, sourceLocation: sourceLocation)
    #expect(CertificateFacts(leaf) == issued.facts, sourceLocation: sourceLocation)
}
