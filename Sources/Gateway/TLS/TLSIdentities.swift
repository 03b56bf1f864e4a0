package import Certificates
import DTLS
import NIOCore
import NIOSSL
import Synchronization
import Transport

/// The gateway's certificates in the forms that the TLS and DTLS libraries take, made once for each certificate, so that
/// no handshake parses PEM.
package final class TLSIdentities: Sendable {
    /// What new connections use.
    private struct Current {
        var tls: NIOSSLContext
        var dtls: DTLSContext
        /// By the identity of the certificate, which each of them keeps alive.
        var forms: [ObjectIdentifier: Forms]
    }

    private let current: Mutex<Current>
    private let onServerName: (@Sendable (String) -> Void)?

    /// - Parameter onServerName: called with the name in each hello of a browser, on its loop.
    init(_ snapshot: CertificateSnapshot, onServerName: (@Sendable (String) -> Void)? = nil) throws {
        self.onServerName = onServerName
        current = Mutex(try Self.make(snapshot, [:], onServerName))
    }

    /// On the task that keeps the certificates. The old contexts live on in their connections; what did not change is
    /// not made again.
    func replace(_ snapshot: CertificateSnapshot) throws {
        let new = try Self.make(snapshot, current.withLock { $0.forms }, onServerName)
        current.withLock { $0 = new }
    }

    var tls: NIOSSLContext { current.withLock { $0.tls } }
    var dtls: DTLSContext { current.withLock { $0.dtls } }

    /// Throws if one of the libraries does not take the certificate.
    package static func check(_ certificate: ServerCertificate) throws {
        let forms = try Forms(certificate)
        _ = try NIOSSLContext(configuration: configuration(forms))
    }

    private static func make(
        _ snapshot: CertificateSnapshot,
        _ known: [ObjectIdentifier: Forms],
        _ onServerName: (@Sendable (String) -> Void)?
    ) throws -> Current {
        var forms: [ObjectIdentifier: Forms] = [:]
        for certificate in snapshot.certificates {
            let id = ObjectIdentifier(certificate)
            forms[id] = try known[id] ?? Forms(certificate)
        }
        return Current(
            tls: try makeTLS(snapshot, forms, onServerName),
            dtls: try makeDTLS(snapshot, forms),
            forms: forms
        )
    }

    /// One certificate, parsed by both libraries.
    private struct Forms: Sendable {
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

    private static func configuration(_ forms: Forms) -> TLSConfiguration {
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: forms.chain,
            privateKey: forms.key
        )
        configuration.minimumTLSVersion = .tlsv12
        // TLS 1.2 with forward secrecy and AEAD only; TLS 1.3 has nothing else.
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
        _ forms: [ObjectIdentifier: Forms],
        _ onServerName: (@Sendable (String) -> Void)?
    ) throws -> NIOSSLContext {
        var configuration = configuration(try form(of: snapshot.fallback, forms))
        if snapshot.certificates.count > 1 || onServerName != nil {
            let overrides = forms.mapValues(\.override)
            configuration.sslContextCallback = { hello, promise in
                if let onServerName, let name = hello.serverHostname { onServerName(name) }
                let chosen = snapshot.select(serverName: hello.serverHostname)
                let override = chosen === snapshot.fallback ? nil : overrides[ObjectIdentifier(chosen)]
                promise.succeed(override ?? .noChanges)
            }
        }
        return try NIOSSLContext(configuration: configuration)
    }

    private static func form(of certificate: ServerCertificate, _ forms: [ObjectIdentifier: Forms]) throws -> Forms {
        try forms[ObjectIdentifier(certificate)] ?? Forms(certificate)
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
        _ forms: [ObjectIdentifier: Forms]
    ) throws -> DTLSContext {
        guard snapshot.certificates.count > 1 else { return try form(of: snapshot.fallback, forms).dtls }
        let contexts = forms.mapValues(\.dtls)
        return try dtlsContext(snapshot.fallback) { name in
            let chosen = snapshot.select(serverName: name)
            return chosen === snapshot.fallback ? nil : contexts[ObjectIdentifier(chosen)]
        }
    }
}
