import Crypto
import DTLS
import FoundationEssentials
import Store
import SwiftASN1
import Transport
import X509

/// The certificates by which replicas of one cluster recognise each other. The authority is a function of the cluster's
/// key, so that there is none to create, to store or to renew: each process issues its own certificate, in memory.
/// A process that has the key is a replica.
///
/// Validity is unlimited, because the clocks of replicas may differ.
enum MeshIdentity {
    /// The name in every certificate, which the dialing replica verifies.
    static let serverName = "replica.hopgate.internal"
    private static let uriPrefix = "hopgate:"
    private static let beginning = Date(timeIntervalSince1970: 946_684_800)
    /// The last second that a certificate can express (RFC 5280 §4.1.2.5).
    private static let end = Date(timeIntervalSince1970: 253_402_300_799)

    /// The contexts of both ends.
    struct Contexts: Sendable {
        let server: DTLSContext
        let client: DTLSContext
    }

    /// Creates the contexts of a process.
    static func contexts(of incarnation: Incarnation, _ keyring: ClusterKeyring) throws -> Contexts {
        let authority = try key(of: keyring.signing)
        let own = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let leaf = try certificate(
            for: own.publicKey,
            issuer: authority,
            of: keyring.signing,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true))
                try ExtendedKeyUsage([.serverAuth, .clientAuth])
                SubjectAlternativeNames([
                    .dnsName(serverName), .uniformResourceIdentifier("\(uriPrefix)\(incarnation)"),
                ])
            }
        )
        var roots = ""
        for clusterKey in keyring.keys {
            let key = try key(of: clusterKey)
            let root = try certificate(
                for: key.publicKey,
                issuer: key,
                of: clusterKey,
                isRoot: true,
                extensions: Certificate.Extensions {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                    Critical(KeyUsage(keyCertSign: true))
                }
            )
            roots += try root.serializeAsPEM().pemString + "\n"
        }
        let trust = Array(roots.utf8)
        let identity = DTLSIdentity(
            certificateChainPEM: Array(try leaf.serializeAsPEM().pemString.utf8),
            privateKeyPEM: Array(try own.serializeAsPEM().pemString.utf8)
        )
        return Contexts(
            server: try .server(
                DTLSServerConfiguration(
                    certificateChainPEM: identity.certificateChainPEM,
                    privateKeyPEM: identity.privateKeyPEM,
                    alpn: [TunnelProtocol.meshALPN],
                    clientTrustPEM: trust
                )
            ),
            client: try .client(
                DTLSClientConfiguration(trust: .caPEM(trust), alpn: [TunnelProtocol.meshALPN], identity: identity)
            )
        )
    }

    /// The incarnation that a certificate names, or `nil` if it names none.
    static func incarnation(uri: String?) -> Incarnation? {
        guard let uri, uri.hasPrefix(uriPrefix) else { return nil }
        return Incarnation(uri.dropFirst(uriPrefix.count))
    }

    /// The private key of the authority that belongs to a key of the cluster.
    private static func key(of clusterKey: ClusterKey) throws -> Certificate.PrivateKey {
        // A scalar above the order of the curve is no key; of 2^32 numbers one is.
        for attempt in 0..<8 {
            let scalar = clusterKey.derive("mesh-ca/\(attempt)", 32)
            if let key = try? P256.Signing.PrivateKey(rawRepresentation: scalar) { return Certificate.PrivateKey(key) }
        }
        throw StoreError(.corrupt, "keys/\(clusterKey.id)", "no key of a certificate authority follows from it")
    }

    private static func certificate(
        for key: Certificate.PublicKey,
        issuer: Certificate.PrivateKey,
        of clusterKey: ClusterKey,
        isRoot: Bool = false,
        extensions: Certificate.Extensions
    ) throws -> Certificate {
        let authority = try DistinguishedName {
            OrganizationName("HopGate")
            CommonName("HopGate mesh \(clusterKey.id)")
        }
        return try Certificate(
            version: .v3,
            serialNumber: Certificate.SerialNumber(),
            publicKey: key,
            notValidBefore: beginning,
            notValidAfter: end,
            issuer: authority,
            subject: isRoot
                ? authority
                : try DistinguishedName {
                    OrganizationName("HopGate")
                    CommonName("HopGate replica")
                },
            extensions: extensions,
            issuerPrivateKey: issuer
        )
    }
}
