package import Certificates
import DTLS
import NIOCore
import NIOSSL
import Synchronization
import Transport

/// The gateway's certificates as contexts of the TLS library (for clients) and of the DTLS library (for agents).
///
/// Each certificate is parsed once, so that no handshake parses PEM. An instance is created at the start from the first
/// ``CertificateSnapshot``; the task that observes the certificates calls ``replace(_:)`` with each later one. A new
/// connection reads ``tls`` or ``dtls``; open connections keep the context that they began with. Each context chooses a
/// certificate by the server name of the ClientHello, and presents the snapshot's fallback if none matches; to agents
/// that send no name it presents the snapshot's certificate for addresses.
///
/// May be used from any thread.
package final class TLSIdentities: Sendable {
    /// The contexts for new connections.
    private struct Current {
        var tls: NIOSSLContext
        var dtls: DTLSContext
        /// The parsed certificates by object identity. Each value keeps its certificate alive, so that an identity is
        /// not reused.
        var parsed: [ObjectIdentifier: ParsedCertificate]
    }

    private let current: Mutex<Current>
    private let onServerName: (@Sendable (String) -> Void)?

    /// Creates the contexts.
    ///
    /// - Parameter onServerName: Called with the server name of each client's hello, on its event loop.
    init(_ snapshot: CertificateSnapshot, onServerName: (@Sendable (String) -> Void)? = nil) throws {
        self.onServerName = onServerName
        current = Mutex(try Self.make(snapshot, [:], onServerName))
    }

    /// Replaces the certificates for new connections. Certificates of the previous snapshot are not parsed again.
    func replace(_ snapshot: CertificateSnapshot) throws {
        let new = try Self.make(snapshot, current.withLock { $0.parsed }, onServerName)
        current.withLock { $0 = new }
    }

    var tls: NIOSSLContext { current.withLock { $0.tls } }
    var dtls: DTLSContext { current.withLock { $0.dtls } }

    /// Checks that both libraries accept a certificate, and that an agent can use it.
    package static func check(_ certificate: ServerCertificate) throws {
        let parsed = try ParsedCertificate(certificate)
        _ = try NIOSSLContext(configuration: configuration(parsed))
        do {
            try parsed.dtls.selfTest(leafSHA256: certificate.leafSHA256, alpn: TunnelProtocol.alpn)
        } catch {
            throw UnusableByAgents(reason: error)
        }
    }

    /// The error of a certificate with which no agent could connect.
    private struct UnusableByAgents: Error, CustomStringConvertible {
        let reason: DTLSError
        var description: String { "no agent could connect with it: \(reason)" }
    }

    private static func make(
        _ snapshot: CertificateSnapshot,
        _ known: [ObjectIdentifier: ParsedCertificate],
        _ onServerName: (@Sendable (String) -> Void)?
    ) throws -> Current {
        var parsed: [ObjectIdentifier: ParsedCertificate] = [:]
        for certificate in snapshot.certificates {
            let id = ObjectIdentifier(certificate)
            parsed[id] = try known[id] ?? ParsedCertificate(certificate)
        }
        return Current(
            tls: try makeTLS(snapshot, parsed, onServerName),
            dtls: try makeDTLS(snapshot, parsed),
            parsed: parsed
        )
    }

    /// One certificate, parsed by both libraries.
    private struct ParsedCertificate: Sendable {
        let certificate: ServerCertificate
        let chain: [NIOSSLCertificateSource]
        let key: NIOSSLPrivateKeySource
        let dtls: DTLSContext

        init(_ certificate: ServerCertificate) throws {
            self.certificate = certificate
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
        _ parsed: [ObjectIdentifier: ParsedCertificate],
        _ onServerName: (@Sendable (String) -> Void)?
    ) throws -> NIOSSLContext {
        var configuration = configuration(try fallback(of: snapshot, parsed))
        if snapshot.certificates.count > 1 || onServerName != nil {
            let overrides = parsed.mapValues(\.override)
            configuration.sslContextCallback = { hello, promise in
                if let onServerName, let name = hello.serverHostname { onServerName(name) }
                let chosen = snapshot.select(serverName: hello.serverHostname)
                let override = chosen === snapshot.fallback ? nil : overrides[ObjectIdentifier(chosen)]
                promise.succeed(override ?? .noChanges)
            }
        }
        return try NIOSSLContext(configuration: configuration)
    }

    private static func fallback(of snapshot: CertificateSnapshot, _ parsed: [ObjectIdentifier: ParsedCertificate])
        throws -> ParsedCertificate
    {
        try parsed[ObjectIdentifier(snapshot.fallback)] ?? ParsedCertificate(snapshot.fallback)
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

    private static func makeDTLS(
        _ snapshot: CertificateSnapshot,
        _ parsed: [ObjectIdentifier: ParsedCertificate]
    ) throws -> DTLSContext {
        guard snapshot.certificates.count > 1 else { return try fallback(of: snapshot, parsed).dtls }
        let contexts = parsed.mapValues(\.dtls)
        return try dtlsContext(snapshot.forAddresses) { name in
            let chosen = snapshot.selectForAgent(serverName: name)
            return chosen === snapshot.forAddresses ? nil : contexts[ObjectIdentifier(chosen)]
        }
    }
}
