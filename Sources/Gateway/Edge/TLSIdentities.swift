import Certificates
import DTLS
import NIOCore
import NIOSSL
import Synchronization

/// The gateway's certificates in the forms that the TLS and DTLS libraries take, made once for each snapshot of the
/// certificate store, so that no handshake parses PEM.
final class TLSIdentities: Sendable {
    /// What new connections use.
    private struct Current {
        var tls: NIOSSLContext
        var dtls: DTLSContext
    }

    private let current: Mutex<Current>

    init(_ snapshot: CertificateSnapshot) throws {
        current = Mutex(try Self.make(snapshot))
    }

    /// On the certificate store's thread. The old contexts live on in their connections.
    func replace(_ snapshot: CertificateSnapshot) throws {
        let new = try Self.make(snapshot)
        current.withLock { $0 = new }
    }

    var tls: NIOSSLContext { current.withLock { $0.tls } }
    var dtls: DTLSContext { current.withLock { $0.dtls } }

    /// The application protocol of agents.
    static let tunnelProtocol = "hop/1"

    private static func make(_ snapshot: CertificateSnapshot) throws -> Current {
        Current(tls: try makeTLS(snapshot), dtls: try makeDTLS(snapshot))
    }

    // MARK: TLS

    /// One parsed certificate.
    private struct Parsed {
        var chain: [NIOSSLCertificateSource]
        var key: NIOSSLPrivateKeySource

        init(_ certificate: ServerCertificate) throws {
            chain = try NIOSSLCertificate.fromPEMBytes(certificate.chainPEM).map { .certificate($0) }
            key = .privateKey(try NIOSSLPrivateKey(bytes: certificate.keyPEM, format: .pem))
        }

        var override: NIOSSLContextConfigurationOverride {
            var override = NIOSSLContextConfigurationOverride()
            override.certificateChain = chain
            override.privateKey = key
            return override
        }
    }

    private static func makeTLS(_ snapshot: CertificateSnapshot) throws -> NIOSSLContext {
        let fallback = try Parsed(snapshot.fallback)
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: fallback.chain,
            privateKey: fallback.key
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
        if snapshot.certificates.count > 1 {
            var overrides: [[UInt8]: NIOSSLContextConfigurationOverride] = [:]
            for certificate in snapshot.certificates.dropFirst() {
                overrides[certificate.leafSHA256] = try Parsed(certificate).override
            }
            let bySNI = overrides
            configuration.sslContextCallback = { hello, promise in
                let chosen = snapshot.select(serverName: hello.serverHostname)
                promise.succeed(bySNI[chosen.leafSHA256] ?? .noChanges)
            }
        }
        return try NIOSSLContext(configuration: configuration)
    }

    // MARK: DTLS

    private static func makeDTLS(_ snapshot: CertificateSnapshot) throws -> DTLSContext {
        func context(
            _ certificate: ServerCertificate,
            select: (@Sendable (String?) -> DTLSContext?)? = nil
        ) throws -> DTLSContext {
            var configuration = DTLSServerConfiguration(
                certificateChainPEM: certificate.chainPEM,
                privateKeyPEM: certificate.keyPEM,
                alpn: [tunnelProtocol]
            )
            configuration.selectContext = select
            return try DTLSContext.server(configuration)
        }
        guard snapshot.certificates.count > 1 else { return try context(snapshot.fallback) }
        var others: [[UInt8]: DTLSContext] = [:]
        for certificate in snapshot.certificates.dropFirst() {
            others[certificate.leafSHA256] = try context(certificate)
        }
        let bySNI = others
        return try context(snapshot.fallback) { name in bySNI[snapshot.select(serverName: name).leafSHA256] }
    }
}
