import ACME
import Formats
import NIOCore
import Store
import Synchronization
import Threads

/// Certificates on demand: a host that a client asks for gets a renewer only after the budget of the cluster has
/// granted its first order. Until then nothing exists for it but a place among the ``ACME/WaitingHosts``.
extension CertificateIssuer {
    /// The largest number of certificates on demand that one process manages.
    static let onDemandLimit = 10_000
    /// The shortest pause between two requests to the budget, which is one read and one write of the store for all
    /// hosts that wait.
    private static let requestPause = Duration.seconds(1)
    /// The pause after a failure of the store.
    private static let failurePause = TimeAmount.seconds(10)
    /// The longest pause before a host that was refused asks again, since others may be removed from the configuration.
    private static let longestRefusal = TimeAmount.hours(1)
    /// The shortest pause between two reports of the same kind.
    private static let reportPause = TimeAmount.minutes(10)

    /// The hosts on demand of one process. Guarded by the lock of the issuer.
    struct OnDemandState {
        var waiting = WaitingHosts()
        /// The number of renewers that are on demand.
        var count = 0
        var nextReport = NIODeadline.uptimeNanoseconds(0)

        /// Whether a report is due, which is counted as made.
        mutating func isReportDue(_ now: NIODeadline = .now()) -> Bool {
            guard now >= nextReport else { return false }
            nextReport = now + CertificateIssuer.reportPause
            return true
        }
    }

    /// The number of hosts that wait for the budget.
    package var waitingCount: Int { state.withLock { $0.onDemand.waiting.count } }

    /// Manages a certificate for a host that a client asks for or an agent offers, if the settings allow it. Wildcards
    /// get none. Returns at once, and may be called for every handshake: it reads nothing from the store, and keeps
    /// nothing of a host that may have none.
    package func requestCertificate(for host: String) {
        guard let onDemand = settings.onDemand, let name = CertificateName(host), case .dns(let text) = name,
            !text.hasPrefix("*.")
        else { return }
        let token: String?
        switch onDemand.eligibility(name) {
        case .refused: return
        case .certified: token = nil
        case .offered(let owner): token = owner
        }
        guard let key = try? name.storeKey, state.withLock({ $0.renewers[key] == nil }) else { return }
        if let token {
            if state.withLock({ $0.onDemand.waiting.insert(name, token: token, now: .now()) }) { admission.send() }
        } else {
            manage(name)
        }
    }

    /// Asks the budget for the hosts that wait, until the task is cancelled.
    func admitHosts() async {
        guard let onDemand = settings.onDemand else { return }
        while !Task.isCancelled {
            await admission.wait(until: state.withLock { $0.onDemand.waiting.nextDue })
            await requestOrders(onDemand)
            try? await Task.sleep(for: Self.requestPause)
        }
    }

    private func requestOrders(_ onDemand: RenewalSettings.OnDemand) async {
        var due: [WaitingHosts.Entry] = []
        for entry in state.withLock({ $0.onDemand.waiting.due(now: .now()) }) {
            switch onDemand.eligibility(entry.host) {
            case .refused: state.withLock { $0.onDemand.waiting.remove(entry.host) }
            case .certified: manage(entry.host)
            case .offered: due.append(entry)
            }
        }
        guard !due.isEmpty else { return }
        let now = shared.directories.serverTime(at: settings.directories[0])
        do throws(StoreError) {
            let decisions = try await shared.records.requestOrders(for: due, limits: onDemand.limits, now: now)
            for (entry, decision) in zip(due, decisions) {
                switch decision {
                case .granted: manage(entry.host)
                case .refused(let until, let isWeekly):
                    let pause = min(.seconds(max(1, until - now)), Self.longestRefusal)
                    let isReported = state.withLock { state in
                        state.onDemand.waiting.postpone(entry.host, until: .now() + pause)
                        return isWeekly && state.onDemand.isReportDue()
                    }
                    if isReported {
                        shared.onEvent(.budgetUsedUp(host: entry.host, token: entry.token, until: until))
                    }
                }
            }
        } catch {
            state.withLock { state in
                for entry in due { state.onDemand.waiting.postpone(entry.host, until: .now() + Self.failurePause) }
            }
            shared.errors.record(error, for: due.map(\.host))
        }
    }

    /// Creates the renewer of a host, unless there is one.
    private func manage(_ host: CertificateName) {
        guard let key = try? host.storeKey else { return }
        let isFull = state.withLock { state -> Bool? in
            state.onDemand.waiting.remove(host)
            guard state.renewers[key] == nil else { return nil }
            return state.onDemand.count >= Self.onDemandLimit
        }
        guard let isFull else { return }
        if !isFull {
            if let renewer = makeRenewer([host], isOnDemand: true) { arrival.yield(renewer) }
        } else if state.withLock({ $0.onDemand.isReportDue() }) {
            shared.onEvent(.tooManyOnDemand(limit: Self.onDemandLimit))
        }
    }
}
