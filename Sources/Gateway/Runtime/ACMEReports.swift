import ACME
import Certificates
import Formats
import Logging
import Observability

/// The log messages and metrics of certificates from CAs. Each event is reported once, by the replica that acted.
struct ACMEReports: Sendable {
    enum Result: String, CaseIterable, Sendable {
        case issued, failed
    }

    private let logger: Logger
    private let orders: CounterTable<Result>
    private let failures: CounterTable<ACMEFailure.Code>

    init(metrics: MetricsRegistry, logger: Logger) {
        self.logger = logger
        orders = metrics.counters(
            "acme_orders_total",
            help: "Certificate orders that this replica completed, by result.",
            label: "result",
            by: Result.self
        )
        failures = metrics.counters(
            "acme_failures_total",
            help: "Orders that failed, by the kind of error: the CA's own, or ours.",
            label: "code",
            by: ACMEFailure.Code.self
        )
    }

    func report(_ event: RenewalEvent) {
        switch event {
        case .ordering(let names, let authority):
            logger.info("certificate order started", metadata: Self.metadata(names, ["ca": "\(authority)"]))
        case .issued(let names, let authority, let version, let notAfter):
            orders[.issued].increment()
            logger.notice(
                "certificate issued",
                metadata: Self.metadata(
                    names,
                    ["ca": "\(authority)", "version": "\(version)", "not_after": "\(notAfter)"]
                )
            )
        case .failed(let names, let authority, let failure, let nextTry):
            orders[.failed].increment()
            failures[failure.code].increment()
            var more: Logger.Metadata = ["ca": "\(authority)", "code": "\(failure.code.rawValue)"]
            more["error"] = "\(failure)"
            more["next_try"] = nextTry.map { "\($0)" } ?? "now, at the next CA"
            logger.error("certificate not issued", metadata: Self.metadata(names, more))
        case .authorityClosed(let authority, let hold, let waiting):
            if let code = ACMEFailure.Code(rawValue: hold.error.code) { failures[code].increment() }
            logger.error(
                "orders at CA suspended",
                metadata: [
                    "ca": "\(authority)", "code": "\(hold.error.code)", "error": "\(hold.error.message)",
                    "next_try": "\(hold.notBefore)", "waiting": "\(waiting)",
                ]
            )
        case .authorityOpened(let authority, let seconds, let waiting):
            logger.notice(
                "orders at CA resumed",
                metadata: ["ca": "\(authority)", "seconds": "\(seconds)", "waiting": "\(waiting)"]
            )
        case .budgetUsedUp(let host, let token, let until):
            logger.warning(
                "budget of certificates on demand used up",
                metadata: [
                    "host": "\(host)", "token": "\(token)", "until": "\(until)",
                    "remedy": "raise acme.on_demand.per_week, or use a wildcard certificate",
                ]
            )
        case .tooManyOnDemand(let limit):
            logger.error(
                "limit of certificates on demand reached",
                metadata: ["limit": "\(limit)", "remedy": "use a wildcard certificate"]
            )
        case .removed(let name):
            logger.info("expired certificate removed", metadata: Self.metadata([name], [:]))
        case .error(let names, let error, let others):
            logger.error(
                "certificate renewal failed; retrying",
                metadata: Self.metadata(names, ["error": "\(error)", "others": "\(others)"])
            )
        }
    }

    private static func metadata(_ names: [CertificateName], _ more: Logger.Metadata) -> Logger.Metadata {
        var metadata = more
        metadata["names"] = "\(names.map(\.description).joined(separator: ","))"
        return metadata
    }

    /// Registers the time of the next renewal of each certificate; every replica reports the same.
    func collect(_ issuer: CertificateIssuer, _ metrics: MetricsRegistry) {
        metrics.collect(
            "certificate_next_renewal_timestamp_seconds",
            .gauge,
            help: "Time of the next renewal of a certificate from a CA, seconds since the epoch by the CA's clock.",
            labelNames: ["name"]
        ) { samples in
            for status in issuer.statuses {
                guard let renewal = status.nextRenewal else { continue }
                samples.add(Double(renewal.seconds), [status.names[0].description])
            }
        }
    }
}
