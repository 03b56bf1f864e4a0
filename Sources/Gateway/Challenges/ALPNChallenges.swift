package import Certificates
package import NIOCore
import NIOSSL
package import Observability
import Synchronization

/// The TLS-ALPN-01 challenges that this process answers at this moment, each with a TLS context that was made before
/// any validator asks for it.
///
/// The gateway has one. Whoever follows the orders fills it on every replica, from any thread but an event loop, since
/// keys are made and certificates signed there; the public listener reads it. While it is empty, and it nearly always
/// is, a connection costs one atomic read.
package final class ALPNChallenges: Sendable {
    /// Names at most; more is refused, nothing is displaced.
    package static let limit = 1_000
    /// A challenge that nobody adds again is forgotten: whoever failed to remove it does not make every connection look
    /// for it for ever.
    package static let lifetime = TimeAmount.hours(1)

    /// What became of a connection that offered `acme-tls/1` alone while a challenge was pending.
    package enum Result: String, CaseIterable, Sendable {
        /// The handshake is complete: the certificate was shown.
        case answered
        /// The handshake failed.
        case failed
        /// No challenge is pending for its server name.
        case unknownName = "unknown_name"
    }

    private struct Entry {
        let challenge: ALPNChallenge
        let context: NIOSSLContext
        var end: NIODeadline
    }

    /// By server name.
    private let entries = Mutex<[String: Entry]>([:])
    /// The latest end of an entry in nanoseconds of uptime; 0 when there is none.
    private let end = Atomic<UInt64>(0)
    private let results: CounterTable<Result>

    package init(metrics: MetricsRegistry) {
        results = metrics.counters(
            "tls_alpn_challenges_total",
            help: "TLS-ALPN-01 validations that reached this gateway while it had a challenge to answer.",
            label: "result",
            by: Result.self
        )
        metrics.collectedGauge(
            "tls_alpn_challenges_pending",
            help: "Names for which a TLS-ALPN-01 challenge is answered."
        ) { [weak self] in
            Double(self?.count ?? 0)
        }
    }

    // MARK: Filling; not on an event loop

    /// Answers this challenge from now on, for ``lifetime``, in place of an earlier one for the same name. Adding the
    /// same again only prolongs it.
    ///
    /// When it returns every connection accepted later is answered; then the CA may be told.
    package func add(_ challenge: ALPNChallenge, now: NIODeadline = .now()) throws(CertificatesError) {
        let serverName = challenge.serverName
        let isKnown = update(now) { entries in
            guard entries[serverName]?.challenge == challenge else { return false }
            entries[serverName]?.end = now + Self.lifetime
            return true
        }
        if isKnown { return }
        let entry = Entry(challenge: challenge, context: try Self.makeContext(challenge), end: now + Self.lifetime)
        let hasRoom = update(now) { entries in
            guard entries[serverName] != nil || entries.count < Self.limit else { return false }
            entries[serverName] = entry
            return true
        }
        guard hasRoom else {
            throw CertificatesError(
                .issuance,
                challenge.name.description,
                "\(Self.limit) names wait for their TLS-ALPN-01 validation already; its challenge is not answered"
            )
        }
    }

    /// Ends this challenge; a newer one for the same name stays.
    package func remove(_ challenge: ALPNChallenge, now: NIODeadline = .now()) {
        let serverName = challenge.serverName
        update(now) { entries in
            if entries[serverName]?.challenge == challenge { entries[serverName] = nil }
        }
    }

    /// Answers exactly these challenges from now on: new ones are added, known ones prolonged with the context that
    /// they have, all others removed. Of two for one name the later counts.
    ///
    /// - Returns: why some of them are not answered; the others are.
    package func replace(with challenges: [ALPNChallenge], now: NIODeadline = .now()) -> [CertificatesError] {
        let wanted = Dictionary(challenges.map { ($0.serverName, $0) }) { _, later in later }
        // What is over goes first and takes no room.
        let new = update(now) { entries in
            entries = entries.filter { wanted[$0.key] != nil }
            return wanted.filter { serverName, challenge in
                guard entries[serverName]?.challenge == challenge else { return true }
                entries[serverName]?.end = now + Self.lifetime
                return false
            }
        }
        var problems: [CertificatesError] = []
        for challenge in new.values {
            do throws(CertificatesError) {
                try add(challenge, now: now)
            } catch { problems.append(error) }
        }
        return problems
    }

    /// Names with a pending challenge, sorted.
    package var names: [CertificateName] {
        entries.withLock { $0.values.map(\.challenge.name) }.sorted()
    }

    private var count: Int { entries.withLock { $0.count } }

    /// Changes the entries, leaves out those whose time is over, and says what new connections have to look for.
    private func update<Outcome: Sendable>(
        _ now: NIODeadline,
        _ change: (inout sending [String: Entry]) -> Outcome
    ) -> Outcome {
        entries.withLock { entries in
            entries = entries.filter { $0.value.end > now }
            let outcome = change(&entries)
            end.store(entries.values.map(\.end.uptimeNanoseconds).max() ?? 0, ordering: .releasing)
            return outcome
        }
    }

    private static func makeContext(_ challenge: ALPNChallenge) throws(CertificatesError) -> NIOSSLContext {
        let made = try ALPNChallengeCertificate.make(challenge)
        do {
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: [.certificate(try NIOSSLCertificate(bytes: made.certificate, format: .der))],
                privateKey: .privateKey(try NIOSSLPrivateKey(bytes: made.privateKey, format: .der))
            )
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = [ALPNChallenge.applicationProtocol]
            configuration.shutdownTimeout = .seconds(1)
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw CertificatesError(
                .issuance,
                challenge.name.description,
                "the TLS context for its TLS-ALPN-01 challenge could not be made: \(error)"
            )
        }
    }

    // MARK: Answering; on the event loops

    /// Whether a connection that is accepted now has to be looked at.
    package func isPending(_ now: NIODeadline) -> Bool {
        now.uptimeNanoseconds < end.load(ordering: .acquiring)
    }

    /// - Parameter serverName: in lower case, without a final dot.
    /// - Returns: nil when no challenge is pending for it.
    func context(for serverName: String, now: NIODeadline) -> NIOSSLContext? {
        entries.withLock { entries in
            guard let entry = entries[serverName], entry.end > now else { return nil }
            return entry.context
        }
    }

    func count(_ result: Result) { results[result].increment() }
}
