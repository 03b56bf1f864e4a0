import ACME
import Certificates
import Cluster
import Formats
import Logging
import NIOCore
import Observability
import Outbound
import Store
import Synchronization

/// Certificates from CAs as a part of a gateway: the issuer with its HTTP client, its challenge presenters, its log
/// messages and its metrics. Exists only if ACME is in use.
final class ACMEService: Sendable {
    let issuer: CertificateIssuer
    let jobs = RenewalJobs()
    /// Called with the server name of each ClientHello of a browser; `nil` if no certificate is ordered on demand.
    let onServerName: (@Sendable (String) -> Void)?
    private let onDemand: ACMEConfiguration.OnDemand
    private let served: ServedCertificates
    private let logger: Logger
    /// The largest number of wildcards that are reported.
    private static let reportLimit = 1_024
    private let reportedWildcards = Mutex<Set<HostPattern>>([])
    private let client: OutboundClient
    private let task = Mutex<Task<Void, Never>?>(nil)
    private let hasEnded = Atomic(false)

    /// - Parameters:
    ///   - served: The certificates that this gateway serves. A host that another one covers gets none on demand.
    ///   - owner: Returns the name of the token whose agent offers exactly this host.
    init(
        _ acme: ACMEConfiguration,
        leaseTime: TimeAmount,
        shared: SharedStore,
        challenges: SharedChallenges,
        served: ServedCertificates,
        owner: @escaping @Sendable (String) -> String?,
        environment: [String: String],
        version: String,
        metrics: MetricsRegistry,
        logger: Logger
    ) {
        let client = OutboundClient(userAgent: "hopgate/\(version)")
        self.client = client
        var presenters: [any ChallengePresenter] = [challenges]
        if let dns = acme.dns {
            let hook = dns.make(client: client, environment: environment)
            presenters.append(
                DNSPresenter(hook, propagation: dns.propagation) { problem in
                    logger.warning("challenge record not removed from the DNS", metadata: ["error": "\(problem)"])
                }
            )
        }
        var onDemand: RenewalSettings.OnDemand?
        if !acme.onDemand.hosts.isEmpty {
            let covers: @Sendable (CertificateName) -> Bool = { name in
                guard case .dns(let host) = name, !host.hasPrefix("*.") else { return false }
                return acme.onDemand.allows(.exact(host))
            }
            onDemand = RenewalSettings.OnDemand(limits: acme.onDemand.limits, covers: covers) { name in
                guard covers(name), let token = owner(name.description) else { return .refused }
                return switch served.coverage(of: name) {
                case .none: .offered(token: token)
                case .own: .certified
                case .other: .refused
                }
            }
        }
        let reports = ACMEReports(metrics: metrics, logger: logger)
        let issuer = CertificateIssuer(
            acme.renewalSettings(leaseTime: leaseTime, onDemand: onDemand),
            certificates: shared.certificates,
            transport: OutboundTransport(client),
            presenter: CombinedPresenter(presenters),
            onEvent: { reports.report($0) }
        )
        reports.collect(issuer, metrics)
        served.onStoreChange { issuer.wake($0) }
        self.issuer = issuer
        let request: @Sendable (String) -> Void = { issuer.requestCertificate(for: $0) }
        onServerName = onDemand == nil ? nil : request
        self.onDemand = acme.onDemand
        self.served = served
        self.logger = logger
    }

    /// Requests certificates for the hosts that an agent offers, where the configuration allows it.
    ///
    /// A wildcard gets none: any client could have names below it certified, and exhaust the limits of the CA. Logs a
    /// warning once for each wildcard that expects one.
    func hostsChanged(_ hosts: [HostPattern]) {
        for host in hosts { issuer.requestCertificate(for: host.description) }
        for host in uncoveredWildcards(hosts)
        where reportedWildcards.withLock({ $0.count < Self.reportLimit && $0.insert(host).inserted }) {
            logger.warning(
                "wildcard excluded from certificates on demand",
                metadata: ["host": "\(host)", "remedy": "\(Self.wildcardRemedy)"]
            )
        }
    }

    private static let wildcardRemedy =
        "let the agent offer each host by name, or add the wildcard to acme.names (dns-01)"

    /// The wildcards among hosts that agents offer which no certificate covers, although hosts below them may get one
    /// on demand.
    private func uncoveredWildcards(_ hosts: some Sequence<HostPattern>) -> [HostPattern] {
        hosts.filter { host in
            guard case .below = host, onDemand.hosts.contains(where: { $0.covers(host) || host.covers($0) }),
                let name = CertificateName(host.description)
            else { return false }
            return served.coverage(of: name) == .none
        }
    }

    /// Returns what an operator should know: CAs that accept no orders, and wildcards without a certificate.
    ///
    /// - Parameter hosts: The hosts that agents offer.
    func warnings(hosts: Set<HostPattern>) -> [String] {
        let held = issuer.authorityHolds.map { authority, hold in
            "the CA \(authority) accepts no orders; next attempt at \(hold.notBefore): \(hold.error.message)"
        }
        return held
            + uncoveredWildcards(hosts).map {
                "\($0) of an agent gets no certificate on demand: \(Self.wildcardRemedy)"
            }
    }

    /// Requests a new certificate.
    ///
    /// - Returns: The report of the job, with the number for ``RenewalJobs/report(_:)``, or `nil` if no certificate
    ///   from a CA has that name.
    func renew(_ text: String) -> [String: JSONValue]? {
        guard let name = CertificateName(text) else { return nil }
        let (number, resolve) = jobs.create { [issuer] in issuer.leaseWait(of: name) }
        guard issuer.renew(name, resolve) else {
            jobs.remove(number)
            return nil
        }
        return jobs.report(number)
    }

    /// Starts the issuer. Called once.
    func start() {
        task.withLock { task in
            task = Task {
                await issuer.run()
                await client.close()
                hasEnded.store(true, ordering: .relaxed)
            }
        }
    }

    /// Stops the issuer and releases its leases, within the time that a healthy volume takes.
    func stop() async {
        guard let task = task.withLock({ $0 }) else { return }
        task.cancel()
        let deadline = NIODeadline.now() + StoreHealth.limit
        while !hasEnded.load(ordering: .relaxed), NIODeadline.now() < deadline {
            try? await Task.sleep(for: .milliseconds(10))
        }
    }
}
