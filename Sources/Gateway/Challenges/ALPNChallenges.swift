package import ACME
package import Certificates
package import NIOCore
import NIOSSL
package import Observability
import Synchronization

/// The TLS-ALPN-01 challenges that this process answers (RFC 8737), each with a TLS context that is created before a
/// validator needs it.
///
/// A gateway has one instance. On every replica ``SharedChallenges`` keeps it up to date with the challenges in the
/// store, and never on an event loop, since that creates keys and signs certificates. The public listener reads it: if
/// ``isPending(_:)``, a new connection gets a ``ClientHelloHandler``, which looks for the context of the requested
/// name. While there are no challenges, which is nearly always, a connection costs one atomic load.
package final class ALPNChallenges: Sendable {
    /// The maximum number of names. Further challenges are rejected; none is displaced.
    package static let limit = 4_096
    /// The time after which a challenge expires unless it is among the challenges again. A challenge that was not
    /// removed because of a failure thus does not delay connections indefinitely.
    package static let lifetime = TimeAmount.hours(1)

    /// The result of a connection that offered only `acme-tls/1` while a challenge was pending.
    package enum Result: String, CaseIterable, Sendable {
        /// The handshake was completed, and the validator has seen the certificate.
        case answered
        /// The handshake failed.
        case failed
        /// No challenge is pending for its server name.
        case unknownName = "unknown_name"
    }

    private struct Entry {
        let challenge: ChallengeTask
        let context: NIOSSLContext
        var expiry: NIODeadline
    }

    /// The entries by server name.
    private let entries = Mutex<[String: Entry]>([:])
    /// The latest expiry of all entries in nanoseconds of uptime; 0 if there are none.
    private let latestExpiry = Atomic<UInt64>(0)
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

    // MARK: Changes, never on an event loop

    /// Replaces all challenges: new ones are answered from now on for ``lifetime``, known ones are prolonged and keep
    /// their context, all others are removed. Of two challenges for the same name the later one is used.
    ///
    /// Every connection that is accepted after the return is answered, so the CA may then be asked to validate.
    ///
    /// - Returns: The reasons why some challenges are not answered: there is no room, or the certificate or the context
    ///   cannot be created. The others are answered.
    package func replace(with challenges: [ChallengeTask], now: NIODeadline = .now()) -> [CertificatesError] {
        let wanted = Dictionary(challenges.map { ($0.serverName, $0) }) { _, later in later }
        // Obsolete challenges are removed first, so that they do not count towards the limit.
        let new = update(now) { entries in
            entries = entries.filter { wanted[$0.key] != nil }
            return wanted.filter { serverName, challenge in
                guard entries[serverName]?.challenge == challenge else { return true }
                entries[serverName]?.expiry = now + Self.lifetime
                return false
            }
        }
        var problems: [CertificatesError] = []
        for challenge in new.values {
            do throws(CertificatesError) {
                try add(challenge, now)
            } catch { problems.append(error) }
        }
        return problems
    }

    private func add(_ challenge: ChallengeTask, _ now: NIODeadline) throws(CertificatesError) {
        let serverName = challenge.serverName
        let entry = Entry(challenge: challenge, context: try Self.makeContext(challenge), expiry: now + Self.lifetime)
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

    /// The names with a pending challenge, sorted.
    package var names: [CertificateName] {
        entries.withLock { $0.values.map(\.challenge.name) }.sorted()
    }

    private var count: Int { entries.withLock { $0.count } }

    /// Changes the entries, removes expired ones, and updates ``latestExpiry``.
    private func update<Outcome: Sendable>(
        _ now: NIODeadline,
        _ change: (inout sending [String: Entry]) -> Outcome
    ) -> Outcome {
        entries.withLock { entries in
            entries = entries.filter { $0.value.expiry > now }
            let outcome = change(&entries)
            latestExpiry.store(entries.values.map(\.expiry.uptimeNanoseconds).max() ?? 0, ordering: .releasing)
            return outcome
        }
    }

    private static func makeContext(_ challenge: ChallengeTask) throws(CertificatesError) -> NIOSSLContext {
        let made = try ALPNChallengeCertificate.make(challenge)
        do {
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: [.certificate(try NIOSSLCertificate(bytes: made.certificate, format: .der))],
                privateKey: .privateKey(try NIOSSLPrivateKey(bytes: made.privateKey, format: .der))
            )
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = [ALPNChallengeCertificate.applicationProtocol]
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

    // MARK: Reading, on the event loops

    /// Whether a connection that is accepted now may be a validation.
    package func isPending(_ now: NIODeadline) -> Bool {
        now.uptimeNanoseconds < latestExpiry.load(ordering: .acquiring)
    }

    /// The TLS context for a name, or `nil` if no challenge is pending for it.
    ///
    /// - Parameter serverName: A server name in lower case without a final dot.
    func context(for serverName: String, now: NIODeadline) -> NIOSSLContext? {
        entries.withLock { entries in
            guard let entry = entries[serverName], entry.expiry > now else { return nil }
            return entry.context
        }
    }

    func count(_ result: Result) { results[result].increment() }
}
