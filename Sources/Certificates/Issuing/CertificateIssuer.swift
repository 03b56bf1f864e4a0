package import Store
import Synchronization

/// Gets the certificates of a gateway from CAs and renews them: one keeper for each. All replicas run the same keepers;
/// what they share stands in the store, and whatever one publishes is served by all.
///
/// Nothing waits for it: a gateway starts and serves without it, with whatever certificates there are.
package final class CertificateIssuer: Sendable {
    /// Certificates on demand that one process looks after.
    private static let onDemandLimit = 10_000
    /// Orders and questions under way at a time, for configured names and for hosts on demand.
    private static let slots = (configured: 16, onDemand: 4)

    private let settings: RenewalSettings
    private let shared: CertificateRenewer.Shared
    private let state: Mutex<State>
    /// Keepers that are to be started.
    private let (arrivals, arrival) = AsyncStream.makeStream(of: CertificateRenewer.self)

    private struct State {
        var keepers: [StoreKey: CertificateRenewer] = [:]
        /// Keepers of ``keepers`` that are on demand.
        var onDemand = 0
        /// Hosts that have a certificate and that no agent serves now: they are looked after again when one does.
        var dormant: Set<String> = []
        var toldThatItIsFull = false
    }

    /// - Parameters:
    ///   - transport: to the CAs.
    ///   - presenter: puts the answers to challenges in their place.
    ///   - onEvent: called with each event, from any thread.
    package init(
        _ settings: RenewalSettings,
        store: any Store,
        transport: any AuthorityTransport,
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
            desk: ACMEDirectoryCache(),
            slots: AsyncSemaphore(Self.slots.configured),
            slotsOnDemand: AsyncSemaphore(Self.slots.onDemand),
            budget: OnDemandBudget(perMinute: settings.onDemand?.perMinute ?? 0),
            tell: onEvent
        )
        state = Mutex(State())
        for names in settings.certificates { _ = makeKeeper(names, isOnDemand: false) }
    }

    /// Every certificate that is had by ACME, in the order of the keys.
    package var statuses: [RenewalStatus] {
        state.withLock { $0.keepers }.sorted { $0.key < $1.key }.map(\.value.status)
    }

    // MARK: Wishes

    /// A browser asks for this host: it gets a certificate if the settings allow it. Answers at once, and may be called for
    /// every handshake.
    package func want(_ host: String) {
        guard let onDemand = settings.onDemand, let name = CertificateName(host), case .dns(let text) = name,
            !text.hasPrefix("*."), let key = try? name.storeKey
        else { return }
        let isFull = state.withLock { state -> Bool? in
            guard state.keepers[key] == nil else { return nil }
            return state.onDemand >= Self.onDemandLimit
        }
        guard let isFull, onDemand.allows(name) else { return }
        if isFull { return tellThatItIsFull() }
        if let keeper = makeKeeper([name], isOnDemand: true) { arrival.yield(keeper) }
    }

    /// Agents offer these hosts now; some may be `*.` and a name.
    package func want(_ hosts: [String]) {
        guard settings.onDemand != nil else { return }
        let dormant = state.withLock { state in
            defer { state.dormant = [] }
            return state.dormant
        }
        for host in hosts { want(host) }
        for host in dormant {
            want(host)
            if let key = try? CertificateName(host)?.storeKey, state.withLock({ $0.keepers[key] == nil }) { rest(host) }
        }
    }

    private func rest(_ host: String) {
        state.withLock { state in
            if state.dormant.count < Self.onDemandLimit { state.dormant.insert(host) }
        }
    }

    private func tellThatItIsFull() {
        let isNew = state.withLock { state in
            defer { state.toldThatItIsFull = true }
            return !state.toldThatItIsFull
        }
        if isNew { shared.tell(.tooManyOnDemand(limit: Self.onDemandLimit)) }
    }

    /// Asks for a new certificate now, whatever the age of the present one.
    ///
    /// - Parameter done: called once with what became of it.
    /// - Returns: false if none of the certificates that are had by ACME is called so, or has that name.
    package func renew(_ name: CertificateName, _ done: @escaping @Sendable (RenewalOutcome) -> Void) -> Bool {
        let keepers = state.withLock { $0.keepers }
        let keeper =
            (try? name.storeKey).flatMap { keepers[$0] }
            ?? keepers.sorted { $0.key < $1.key }.map(\.value).first { $0.names.contains(name) }
        guard let keeper else { return false }
        keeper.renew(done)
        return true
    }

    /// Nil if there is one already, or if the name has no key in the store.
    private func makeKeeper(_ names: [CertificateName], isOnDemand: Bool) -> CertificateRenewer? {
        guard let key = try? names[0].storeKey else { return nil }
        return state.withLock { state in
            guard state.keepers[key] == nil else { return nil }
            let keeper = CertificateRenewer(key: key, names: names, isOnDemand: isOnDemand, shared: shared)
            state.keepers[key] = keeper
            if isOnDemand { state.onDemand += 1 }
            return keeper
        }
    }

    // MARK: Life

    /// Looks after the certificates until the task is cancelled. Run it once.
    package func run() async {
        let first = state.withLock { Array($0.keepers.values) }
        await withDiscardingTaskGroup { group in
            group.addTask {
                await self.follow(CertificateSet.prefix) { key in
                    self.found(key)
                    return key
                }
            }
            group.addTask { await self.follow(RenewalRecords.names) { try? CertificateSet.prefix.child($0.name) } }
            for keeper in first { group.addTask { await self.run(keeper) } }
            for await keeper in arrivals { group.addTask { await self.run(keeper) } }
            group.cancelAll()
        }
    }

    /// What was had on demand before a restart is looked after also if no browser asks for it.
    private func found(_ key: StoreKey) {
        guard settings.onDemand != nil, case .dns(let host)? = CertificateName(storeKey: key), !host.hasPrefix("*.")
        else { return }
        want(host)
        if state.withLock({ $0.keepers[key] == nil }) { rest(host) }
    }

    private func run(_ keeper: CertificateRenewer) async {
        // One that came before this runs arrives twice.
        guard !keeper.hasStarted.exchange(true, ordering: .relaxed) else { return }
        await keeper.run()
        guard keeper.isOnDemand else { return }
        state.withLock { state in
            state.keepers[keeper.key] = nil
            state.onDemand -= 1
        }
        if keeper.status.nextRenewal != nil { rest(keeper.names[0].description) }
    }

    /// Wakes the keepers whose certificate, or what is known of it, another replica has changed.
    private func follow(_ prefix: StoreKey, _ certificate: @Sendable (StoreKey) -> StoreKey?) async {
        for await changes in shared.store.changes(prefix) {
            for change in changes {
                guard let key = certificate(change.key) else { continue }
                state.withLock { $0.keepers[key] }?.look()
            }
        }
    }
}
