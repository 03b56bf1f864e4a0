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
    /// The numbers of concurrent orders and requests for renewal information.
    private static let permits = (configured: 16, onDemand: 4)

    let settings: RenewalSettings
    let shared: CertificateRenewer.Shared
    let state: Mutex<State>
    /// Renewers that were created after the issuer and have to be started.
    let (arrivals, arrival) = AsyncStream.makeStream(of: CertificateRenewer.self)
    /// Sent when a host waits for the budget.
    let admission = AsyncSignal()

    struct State {
        var renewers: [StoreKey: CertificateRenewer] = [:]
        var onDemand = OnDemandState()
    }

    /// - Parameters:
    ///   - certificates: The certificates in the store, where those that are obtained are written.
    ///   - transport: Carries requests to the CAs.
    ///   - presenter: Presents the responses to challenges.
    ///   - onEvent: Called with each event, from any thread.
    package init(
        _ settings: RenewalSettings,
        certificates: CertificateSet,
        transport: any ACMETransport,
        presenter: any ChallengePresenter,
        onEvent: @escaping @Sendable (RenewalEvent) -> Void
    ) {
        self.settings = settings
        let records = RenewalRecords(certificates.store)
        let directories = ACMEDirectoryCache()
        let errors = ErrorReports(store: certificates.store, onEvent: onEvent)
        shared = CertificateRenewer.Shared(
            settings: settings,
            certificates: certificates,
            records: records,
            transport: transport,
            presenter: presenter,
            directories: directories,
            gates: AuthorityGates(
                settings,
                records: records,
                directories: directories,
                errors: errors,
                onEvent: onEvent
            ),
            permits: AsyncSemaphore(Self.permits.configured),
            permitsOnDemand: AsyncSemaphore(Self.permits.onDemand),
            errors: errors,
            onEvent: onEvent
        )
        state = Mutex(State())
        for names in settings.certificates { _ = makeRenewer(names, isOnDemand: false) }
    }

    /// The status of every managed certificate, in the order of the keys.
    package var statuses: [RenewalStatus] {
        state.withLock { $0.renewers }.sorted { $0.key < $1.key }.map(\.value.status)
    }

    /// The CAs that accept no orders at the moment, by directory URL.
    package var authorityHolds: [String: AuthorityHold] { shared.gates.holds }

    // MARK: Requests

    /// Requests a new certificate now, regardless of the age of the present one.
    ///
    /// - Parameter completion: Called once with the outcome, from any thread.
    /// - Returns: Whether a managed certificate is stored under the name or contains it. If not, `completion` is not
    ///   called.
    package func renew(_ name: CertificateName, _ completion: @escaping @Sendable (RenewalOutcome) -> Void) -> Bool {
        guard let renewer = renewer(of: name) else { return false }
        renewer.renew(completion)
        return true
    }

    /// The lease that a request for this name waits for, because another process holds it for longer than a second.
    package func leaseWait(of name: CertificateName) -> LeaseWait? { renewer(of: name)?.status.leaseWait }

    private func renewer(of name: CertificateName) -> CertificateRenewer? {
        let renewers = state.withLock { $0.renewers }
        return (try? name.storeKey).flatMap { renewers[$0] }
            ?? renewers.sorted { $0.key < $1.key }.map(\.value).first { $0.names.contains(name) }
    }

    /// Creates a renewer, or returns `nil` if there is one already or the name has no key in the store.
    func makeRenewer(_ names: [CertificateName], isOnDemand: Bool) -> CertificateRenewer? {
        guard let key = try? names[0].storeKey else { return nil }
        return state.withLock { state in
            guard state.renewers[key] == nil else { return nil }
            let renewer = CertificateRenewer(key: key, names: names, isOnDemand: isOnDemand, shared: shared)
            state.renewers[key] = renewer
            if isOnDemand { state.onDemand.count += 1 }
            return renewer
        }
    }

    // MARK: The task

    /// Runs all renewers until the task is cancelled. Called once.
    package func run() async {
        let first = state.withLock { Array($0.renewers.values) }
        // The renewers whose state another replica has changed decide again.
        let watch = shared.store.watch(.below(RenewalRecords.names)) { [weak self] batch in
            self?.wake(batch.changes.map(\.key.name))
            return []
        }
        defer { watch.cancel() }
        await withDiscardingTaskGroup { group in
            group.addTask { await self.admitHosts() }
            group.addTask { await self.removeAbandonedRecords() }
            group.addTask { await self.shared.gates.run { self.wake($0) } }
            for renewer in first { group.addTask { await self.run(renewer) } }
            for await renewer in arrivals { group.addTask { await self.run(renewer) } }
            group.cancelAll()
        }
    }

    private func run(_ renewer: CertificateRenewer) async {
        // A renewer that was created before this task started arrives twice.
        guard await renewer.run(), renewer.isOnDemand else { return }
        state.withLock { state in
            state.renewers[renewer.key] = nil
            state.onDemand.count -= 1
        }
    }

    /// Lets the renewers of these names decide again, because their certificates in the store have changed.
    ///
    /// - Parameter names: The last components of the keys.
    package func wake(_ names: [String]) {
        let renewers = state.withLock { $0.renewers }
        for name in names { (try? CertificateSet.prefix.child(name)).flatMap { renewers[$0] }?.wake() }
    }
}
