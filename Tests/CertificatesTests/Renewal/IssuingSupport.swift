import ACME
import Certificates
import Formats
import NIOCore
import Outbound
import Store
import Synchronization
import TestSupport
import Testing
import Threads

/// The CA in memory behind the transport of the product, as fast as it can answer. Several gateways may use it.
final class MemoryAuthority: ACMETransport, @unchecked Sendable {
    private let lock = PlainLock()
    /// Touched under the lock.
    private let ca = TestCA()
    private let board: ChallengeBoard

    init(board: ChallengeBoard) {
        self.board = board
        ca.validators = { expected in board.finds(expected) }
    }

    func with<Result>(_ body: (TestCA) throws -> Result) rethrows -> Result {
        try lock.withLock { try body(ca) }
    }

    func send(_ request: ACMERequest, trust: OutboundTrust) async throws(ACMETransportError) -> ACMEResponse {
        if Task.isCancelled { throw ACMETransportError("cancelled") }
        let answer = with { $0.answer(request, now: Instant.now.wall) }
        guard let answer else { throw ACMETransportError("the connection was cut") }
        return answer
    }
}

/// A lock for what is not Sendable.
final class PlainLock: Sendable {
    private let mutex = Mutex(())

    func withLock<Result>(_ body: () throws -> Result) rethrows -> Result {
        try mutex.withLock { _ in
            nonisolated(unsafe) let body = body
            nonisolated(unsafe) let result = try body()
            return result
        }
    }
}

/// The challenges that validators can find, whichever replica they ask.
final class ChallengeBoard: ChallengePresenter {
    private let shown = Mutex<Set<Expected>>([])
    let failure = Mutex<String?>(nil)

    func finds(_ expected: Expected) -> Bool { shown.withLock { $0.contains(expected) } }
    var isEmpty: Bool { shown.withLock { $0.isEmpty } }

    func present(_ tasks: [ChallengeTask]) async throws(PresentationError) {
        if let reason = failure.withLock({ $0 }) { throw PresentationError(reason) }
        shown.withLock { $0.formUnion(tasks.map { Expected($0) }) }
    }

    func withdraw(_ tasks: [ChallengeTask]) async {
        shown.withLock { $0.subtract(tasks.map { Expected($0) }) }
    }
}

/// A transport of a process that dies: it sends one request of a kind, and never receives the response.
final class DyingTransport: ACMETransport {
    private let ca: MemoryAuthority
    private let last: @Sendable (ACMERequest) -> Bool
    let hasDied = Mutex(false)

    init(_ ca: MemoryAuthority, after last: @escaping @Sendable (ACMERequest) -> Bool) {
        self.ca = ca
        self.last = last
    }

    func send(_ request: ACMERequest, trust: OutboundTrust) async throws(ACMETransportError) -> ACMEResponse {
        let answer = try await ca.send(request, trust: trust)
        guard last(request) else { return answer }
        hasDied.withLock { $0 = true }
        // Until the task is cancelled.
        await AsyncSignal().wait()
        throw ACMETransportError("dead")
    }
}

extension CertificateIssuer {
    /// Requests a new certificate, and waits for the outcome.
    func outcome(of name: String) async throws -> RenewalOutcome {
        let outcome = Mutex<RenewalOutcome?>(nil)
        let isManaged = renew(CertificateName(name)!) { answer in outcome.withLock { $0 = answer } }
        #expect(isManaged)
        try await eventually(within: .seconds(30)) { outcome.withLock { $0 } != nil }
        return try #require(outcome.withLock { $0 })
    }
}

/// Gateways that share a store and ask one CA.
final class IssuingWorld: Sendable {
    let board: ChallengeBoard
    let ca: MemoryAuthority
    let store: any Store
    let events = Mutex<[RenewalEvent]>([])
    /// The watches that tell issuers of changed certificates, as a gateway does.
    private let watches = Mutex<[StoreWatch]>([])
    private let running = Mutex<[Task<Void, Never>]>([])

    init(store: any Store = VolumeStore.inMemory()) {
        let board = ChallengeBoard()
        self.board = board
        ca = MemoryAuthority(board: board)
        self.store = store
    }

    func settings(_ names: [[String]], change: (inout RenewalSettings) -> Void = { _ in }) -> RenewalSettings {
        let authority = ACMEAuthority(directory: TestCA.directory, contacts: ["admin@a.test"])
        var settings = RenewalSettings(
            authorities: [RenewalSettings.Authority(authority)],
            certificates: names.map { $0.map { CertificateName($0)! } },
            challenges: [.http01, .tlsALPN01, .dns01],
            leaseTime: .seconds(1)
        )
        change(&settings)
        return settings
    }

    func issuer(
        _ settings: RenewalSettings,
        store: (any Store)? = nil,
        transport: (any ACMETransport)? = nil
    ) -> CertificateIssuer {
        let store = store ?? self.store
        let issuer = CertificateIssuer(
            settings,
            certificates: store.certificates,
            transport: transport ?? ca,
            presenter: board
        ) { event in
            self.events.withLock { $0.append(event) }
        }
        let watch = store.watch(.below(CertificateSet.prefix)) { batch in
            issuer.wake(batch.changes.map(\.key.name))
            return []
        }
        watches.withLock { $0.append(watch) }
        return issuer
    }

    /// Runs an issuer until ``stop()``.
    func start(_ issuer: CertificateIssuer) {
        let task = Task { await issuer.run() }
        running.withLock { $0.append(task) }
    }

    /// Ends all issuers that run, and waits for their ends.
    func stop() async {
        let tasks = running.withLock { tasks in
            defer { tasks = [] }
            return tasks
        }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
    }

    /// Returns the certificate that the store holds for this name.
    func certificate(_ name: String) async throws -> ServerCertificate? {
        let key = try CertificateName(name)!.storeKey
        return try? await store.certificates.read(key).certificate
    }

    /// Waits until a certificate for the name is published.
    func published(_ name: String, line: Int = #line) async throws {
        try await eventually("\(name) is published", line: line) { (try? await certificate(name)) != nil }
    }

    var orders: Int { ca.with { ca in ca.payloads.count { $0.path == "/order-plz" } } }
    var accounts: Int { ca.with { $0.accounts.count } }
    var failures: [ACMEFailure] {
        events.withLock { events in
            events.compactMap { event in
                if case .failed(_, _, let failure, _) = event { failure } else { nil }
            }
        }
    }
    /// The number of reports that the CA has closed or opened.
    var authorityEvents: Int {
        events.withLock { events in
            events.count { event in
                switch event {
                case .authorityClosed, .authorityOpened: true
                default: false
                }
            }
        }
    }
    var troubles: [StoreError] {
        events.withLock { events in
            events.compactMap { event in if case .error(_, let error, _) = event { error } else { nil } }
        }
    }
}
