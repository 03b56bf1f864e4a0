package import ACME
import NIOCore
package import Store
import Synchronization
import Threads

/// Obtains and renews the certificates of a gateway: one ``CertificateRenewer`` for each.
///
/// All replicas run the same renewers. They share their state through the store, and what one replica publishes is
/// served by all. Nothing depends on an issuer: a gateway starts and serves without it, with the certificates that
/// exist.
package final class CertificateIssuer: Sendable {
    /// The largest number of certificates on demand that one process manages.
    private static let onDemandLimit = 10_000
    /// The numbers of concurrent orders and requests for renewal information.
    private static let permits = (configured: 16, onDemand: 4)

    private let settings: RenewalSettings
    private let shared: CertificateRenewer.Shared
    private let state: Mutex<State>
    /// Renewers that were created after the issuer and have to be started.
    private let (arrivals, arrival) = AsyncStream.makeStream(of: CertificateRenewer.self)

    private struct State {
        var renewers: [StoreKey: CertificateRenewer] = [:]
        /// The number of ``renewers`` that are on demand.
        var onDemand = 0
        /// The hosts with a certificate that no agent serves now. They are managed again when an agent does.
        var dormant: Set<String> = []
        var hasReportedLimit = false
    }

    /// - Parameters:
    ///   - transport: Carries requests to the CAs.
    ///   - presenter: Presents the responses to challenges.
    ///   - onEvent: Called with each event, from any thread.
    package init(
        _ settings: RenewalSettings,
        store: any Store,
        transport: any ACMETransport,
        presenter: any ChallengePresenter,
        onEvent: @escaping @Sendable (RenewalEvent) -> Void
    ) {
        self.settings = settings
        shared = CertificateRenewer.Shared(
            settings: settings,
            store: store,
            records: RenewalRecords(store),
            transport: transport,
            presenter: presenter,
            directories: ACMEDirectoryCache(),
            permits: AsyncSemaphore(Self.permits.configured),
            permitsOnDemand: AsyncSemaphore(Self.permits.onDemand),
            budget: OnDemandBudget(perMinute: settings.onDemand?.perMinute ?? 0),
            onEvent: onEvent
        )
        state = Mutex(State())
        for names in settings.certificates { _ = makeRenewer(names, isOnDemand: false) }
    }

    /// The status of every managed certificate, in the order of the keys.
    package var statuses: [RenewalStatus] {
        state.withLock { $0.renewers }.sorted { $0.key < $1.key }.map(\.value.status)
    }

    // MARK: Requests

    /// Manages a certificate for a host that a browser asks for, if the settings allow it. Returns at once, and may be
    /// called for every handshake.
    package func requestCertificate(for host: String) {
        guard let onDemand = settings.onDemand, let name = CertificateName(host), case .dns(let text) = name,
            !text.hasPrefix("*."), let key = try? name.storeKey
        else { return }
        let isFull = state.withLock { state -> Bool? in
            guard state.renewers[key] == nil else { return nil }
            return state.onDemand >= Self.onDemandLimit
        }
        guard let isFull, onDemand.allows(name) else { return }
        if isFull { return reportLimit() }
        if let renewer = makeRenewer([name], isOnDemand: true) { arrival.yield(renewer) }
    }

    /// Manages certificates for the hosts that agents serve now. Some may be `*.` and a name.
    package func updateServedHosts(_ hosts: [String]) {
        guard settings.onDemand != nil else { return }
        let dormant = state.withLock { state in
            defer { state.dormant = [] }
            return state.dormant
        }
        for host in hosts { requestCertificate(for: host) }
        for host in dormant {
            requestCertificate(for: host)
            if let key = try? CertificateName(host)?.storeKey, !isManaged(key) { addDormant(host) }
        }
    }

    private func isManaged(_ key: StoreKey) -> Bool { state.withLock { $0.renewers[key] != nil } }

    private func addDormant(_ host: String) {
        state.withLock { state in
            if state.dormant.count < Self.onDemandLimit { state.dormant.insert(host) }
        }
    }

    private func reportLimit() {
        let isNew = state.withLock { state in
            defer { state.hasReportedLimit = true }
            return !state.hasReportedLimit
        }
        if isNew { shared.onEvent(.tooManyOnDemand(limit: Self.onDemandLimit)) }
    }

    /// Requests a new certificate now, regardless of the age of the present one.
    ///
    /// - Parameter completion: Called once with the outcome, from any thread.
    /// - Returns: Whether a managed certificate is stored under the name or contains it. If not, `completion` is not
    ///   called.
    package func renew(_ name: CertificateName, _ completion: @escaping @Sendable (RenewalOutcome) -> Void) -> Bool {
        let renewers = state.withLock { $0.renewers }
        let renewer =
            (try? name.storeKey).flatMap { renewers[$0] }
            ?? renewers.sorted { $0.key < $1.key }.map(\.value).first { $0.names.contains(name) }
        guard let renewer else { return false }
        renewer.renew(completion)
        return true
    }

    /// Creates a renewer, or returns `nil` if there is one already or the name has no key in the store.
    private func makeRenewer(_ names: [CertificateName], isOnDemand: Bool) -> CertificateRenewer? {
        guard let key = try? names[0].storeKey else { return nil }
        return state.withLock { state in
            guard state.renewers[key] == nil else { return nil }
            let renewer = CertificateRenewer(key: key, names: names, isOnDemand: isOnDemand, shared: shared)
            state.renewers[key] = renewer
            if isOnDemand { state.onDemand += 1 }
            return renewer
        }
    }

    // MARK: The task

    /// Runs all renewers until the task is cancelled. Called once.
    package func run() async {
        let first = state.withLock { Array($0.renewers.values) }
        await withDiscardingTaskGroup { group in
            group.addTask {
                await self.watch(CertificateSet.prefix) { key in
                    self.restore(key)
                    return key
                }
            }
            group.addTask { await self.watch(RenewalRecords.names) { try? CertificateSet.prefix.child($0.name) } }
            for renewer in first { group.addTask { await self.run(renewer) } }
            for await renewer in arrivals { group.addTask { await self.run(renewer) } }
            group.cancelAll()
        }
    }

    /// Manages a stored certificate on demand again after a restart, even if no browser asks for it.
    private func restore(_ key: StoreKey) {
        guard settings.onDemand != nil, case .dns(let host)? = CertificateName(storeKey: key), !host.hasPrefix("*.")
        else { return }
        requestCertificate(for: host)
        if !isManaged(key) { addDormant(host) }
    }

    private func run(_ renewer: CertificateRenewer) async {
        // A renewer that was created before this task started arrives twice.
        guard await renewer.run(), renewer.isOnDemand else { return }
        state.withLock { state in
            state.renewers[renewer.key] = nil
            state.onDemand -= 1
        }
        if renewer.status.nextRenewal != nil { addDormant(renewer.names[0].description) }
    }

    /// Wakes the renewers whose certificate or state another replica has changed.
    ///
    /// - Parameter certificate: Returns the certificate that a changed key belongs to.
    private func watch(_ prefix: StoreKey, _ certificate: @Sendable (StoreKey) -> StoreKey?) async {
        for await changes in shared.store.changes(prefix) {
            for change in changes {
                guard let key = certificate(change.key) else { continue }
                state.withLock { $0.renewers[key] }?.wake()
            }
        }
    }
}

/// The budget of certificates on demand, shared by all renewers of the process.
final class OnDemandBudget: Sendable {
    private let budget: Mutex<IssuanceBudget>

    init(perMinute: Int) {
        budget = Mutex(IssuanceBudget(perMinute: perMinute))
    }

    /// Whether an order may start. Checked before a permit or a lease is acquired for it.
    var hasCapacity: Bool { budget.withLock { $0.hasCapacity(now: .now()) } }

    /// Takes one order from the budget. If it returns `true`, ``release(_:)`` must follow.
    func acquire(_ name: CertificateName) -> Bool {
        budget.withLock { $0.request(name, now: .now()) == .granted }
    }

    func release(_ name: CertificateName) {
        budget.withLock { $0.release(name) }
    }
}
