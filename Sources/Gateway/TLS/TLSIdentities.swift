package import Certificates
import DTLS
import NIOCore
import NIOSSL
import Synchronization
import Transport

/// The gateway's certificates as contexts of the TLS library (for clients) and of the DTLS library (for agents).
///
/// Each certificate is parsed once, by ``check(_:)`` or else here, so that no handshake parses PEM. An instance is
/// created at the start from the first ``CertificateSnapshot``; the task that observes the certificates calls
/// ``replace(_:)`` with each later one. A new connection reads ``tls`` or ``dtls``; open connections keep the context
/// that they began with. Each context chooses a certificate by the server name of the ClientHello, and presents the
/// snapshot's fallback if none matches; to agents that send no name it presents the snapshot's certificate for
/// addresses.
///
/// May be used from any thread.
package final class TLSIdentities: Sendable {
    /// The contexts for new connections.
    private struct Current {
        var tls: NIOSSLContext
        var dtls: DTLSContext
    }

    private let current: Mutex<Current>
    private let onServerName: (@Sendable (String) -> Void)?

    /// Creates the contexts.
    ///
    /// - Parameter onServerName: Called with the server name of each client's hello, on its event loop.
    init(_ snapshot: CertificateSnapshot, onServerName: (@Sendable (String) -> Void)? = nil) throws {
        self.onServerName = onServerName
        current = Mutex(try Self.make(snapshot, onServerName))
    }

    /// Replaces the certificates for new connections.
    func replace(_ snapshot: CertificateSnapshot) throws {
        let new = try Self.make(snapshot, onServerName)
        current.withLock { $0 = new }
    }

    var tls: NIOSSLContext { current.withLock { $0.tls } }
    var dtls: DTLSContext { current.withLock { $0.dtls } }

    /// The kinds that passed the check, at most ``kindLimit``.
    private static let checkedKinds = Mutex<Set<CertificateKind>>([])
    private static let kindLimit = 256

    /// Checks that both libraries accept a certificate, and that an agent can use it. The handshakes of the check are
    /// made once for all certificates of one kind, since they cost more than all else in the start of a gateway with
    /// many names.
    package static func check(_ certificate: ServerCertificate) throws {
        let parsed = try ParsedCertificate.of(certificate)
        // The size of a chain also decides about a handshake; usual ones are far below what is too large.
        let kind = certificate.chainPEM.count > 16_384 ? nil : CertificateKind(certificate)
        if let kind, checkedKinds.withLock({ $0.contains(kind) }) { return }
        _ = try NIOSSLContext(configuration: configuration(parsed))
        do {
            try parsed.dtls.selfTest(leafSHA256: certificate.leafSHA256, alpn: TunnelProtocol.alpn)
        } catch {
            throw UnusableByAgents(reason: error)
        }
        guard let kind else { return }
        checkedKinds.withLock { kinds in
            if kinds.count >= kindLimit { kinds.removeAll() }
            kinds.insert(kind)
        }
    }

    /// The error of a certificate with which no agent could connect.
    private struct UnusableByAgents: Error, CustomStringConvertible {
        let reason: DTLSError
        var description: String { "no agent could connect with it: \(reason)" }
    }

    private static func make(
        _ snapshot: CertificateSnapshot,
        _ onServerName: (@Sendable (String) -> Void)?
    ) throws -> Current {
        for certificate in snapshot.certificates { _ = try ParsedCertificate.of(certificate) }
        return Current(tls: try makeTLS(snapshot, onServerName), dtls: try makeDTLS(snapshot))
    }

    /// One certificate, parsed by both libraries.
    private struct ParsedCertificate: Sendable {
        let chain: [NIOSSLCertificateSource]
        let key: NIOSSLPrivateKeySource
        let dtls: DTLSContext

        /// Returns the form that a certificate keeps once it was parsed.
        static func of(_ certificate: ServerCertificate) throws -> Self {
            try certificate.served { try Self(certificate) }
        }

        private init(_ certificate: ServerCertificate) throws {
            chain = try NIOSSLCertificate.fromPEMBytes(certificate.chainPEM).map { .certificate($0) }
            key = .privateKey(try NIOSSLPrivateKey(bytes: certificate.keyPEM, format: .pem))
            dtls = try TLSIdentities.dtlsContext(certificate)
        }

        var override: NIOSSLContextConfigurationOverride {
            var override = NIOSSLContextConfigurationOverride()
            override.certificateChain = chain
            override.privateKey = key
            return override
        }
    }

    // MARK: TLS

    private static func configuration(_ parsed: ParsedCertificate) -> TLSConfiguration {
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: parsed.chain,
            privateKey: parsed.key
        )
        configuration.minimumTLSVersion = .tlsv12
        // TLS 1.2 with forward secrecy and AEAD ciphers only. All ciphers of TLS 1.3 have these properties.
        configuration.cipherSuiteValues = [
            .TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, .TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            .TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, .TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            .TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, .TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ]
        configuration.applicationProtocols = ["http/1.1"]
        configuration.shutdownTimeout = .seconds(2)
        return configuration
    }

    private static func makeTLS(
        _ snapshot: CertificateSnapshot,
        _ onServerName: (@Sendable (String) -> Void)?
    ) throws -> NIOSSLContext {
        var configuration = configuration(try .of(snapshot.fallback))
        if snapshot.certificates.count > 1 || onServerName != nil {
            configuration.sslContextCallback = { hello, promise in
                if let onServerName, let name = hello.serverHostname { onServerName(name) }
                let chosen = snapshot.select(serverName: hello.serverHostname)
                let override = chosen === snapshot.fallback ? nil : try? ParsedCertificate.of(chosen).override
                promise.succeed(override ?? .noChanges)
            }
        }
        return try NIOSSLContext(configuration: configuration)
    }

    // MARK: DTLS

    private static func dtlsContext(
        _ certificate: ServerCertificate,
        select: (@Sendable (String?) -> DTLSContext?)? = nil
    ) throws -> DTLSContext {
        var configuration = DTLSServerConfiguration(
            certificateChainPEM: certificate.chainPEM,
            privateKeyPEM: certificate.keyPEM,
            alpn: [TunnelProtocol.alpn]
        )
        configuration.selectContext = select
        return try DTLSContext.server(configuration)
    }

    private static func makeDTLS(_ snapshot: CertificateSnapshot) throws -> DTLSContext {
        guard snapshot.certificates.count > 1 else { return try ParsedCertificate.of(snapshot.fallback).dtls }
        return try dtlsContext(snapshot.forAddresses) { name in
            let chosen = snapshot.selectForAgent(serverName: name)
            return chosen === snapshot.forAddresses ? nil : try? ParsedCertificate.of(chosen).dtls
        }
    }
}
