import COpenSSL

/// A certificate that one end presents, and its key.
package struct DTLSIdentity: Sendable {
    /// The certificate chain: the leaf first, then the intermediates.
    package var certificateChainPEM: [UInt8]
    /// The private key of the leaf, not encrypted.
    package var privateKeyPEM: [UInt8]

    package init(certificateChainPEM: [UInt8], privateKeyPEM: [UInt8]) {
        self.certificateChainPEM = certificateChainPEM
        self.privateKeyPEM = privateKeyPEM
    }
}

/// The certificate, protocols and context selection of a DTLS server.
package struct DTLSServerConfiguration: Sendable {
    package var identity: DTLSIdentity
    /// The application protocols (ALPN) in order of preference. A peer that offers none of them is refused.
    package var alpn: [String]
    /// The authorities, as PEM, one of which has to have issued the certificate of each client; `nil` if clients
    /// present none. Such a certificate has at most ``DTLSContext/maxClientCertificate`` bytes.
    package var clientTrustPEM: [UInt8]?
    /// Returns another context for the SNI name of a hello (`nil` if the hello has none), or `nil` to keep this one.
    /// Only the certificate and key of that context are used. Called on the session's thread during the handshake; must
    /// not block.
    package var selectContext: (@Sendable (_ serverName: String?) -> DTLSContext?)?

    package init(
        certificateChainPEM: [UInt8],
        privateKeyPEM: [UInt8],
        alpn: [String],
        clientTrustPEM: [UInt8]? = nil,
        selectContext: (@Sendable (_ serverName: String?) -> DTLSContext?)? = nil
    ) {
        identity = DTLSIdentity(certificateChainPEM: certificateChainPEM, privateKeyPEM: privateKeyPEM)
        self.alpn = alpn
        self.clientTrustPEM = clientTrustPEM
        self.selectContext = selectContext
    }
}

/// The trust by which a client verifies its peer's certificate. Trusting every certificate is not possible.
package enum DTLSTrust: Sendable {
    /// The certificate authorities of the operating system.
    case systemRoots
    /// The certificates of a PEM file, read once.
    case caFile(path: String)
    /// The certificates of a PEM text.
    case caPEM([UInt8])
    /// A SHA-256 digest. If it is the digest of the leaf's DER or of its SubjectPublicKeyInfo, that is the peer's
    /// identity, and its names and dates are not checked. If it is the digest of an authority in the peer's chain,
    /// names and dates count as usual (RFC 7671 §5.1, §5.2).
    case pin(sha256: [UInt8])
}

/// The trust and protocols of a DTLS client.
package struct DTLSClientConfiguration: Sendable {
    package var trust: DTLSTrust
    package var alpn: [String]
    /// The certificate for servers that require one, or `nil`.
    package var identity: DTLSIdentity?

    package init(trust: DTLSTrust, alpn: [String], identity: DTLSIdentity? = nil) {
        self.trust = trust
        self.alpn = alpn
        self.identity = identity
    }
}

/// One SSL_CTX: certificates, trust and rules that many sessions share.
///
/// Sendable although it holds a pointer: it never changes after its creation, and OpenSSL protects the parts that
/// sessions on several threads share with its own locks and counters.
package final class DTLSContext: @unchecked Sendable {
    let handle: OpaquePointer
    let isServer: Bool
    let isPinned: Bool
    let verifiesClients: Bool
    let selectContext: (@Sendable (_ serverName: String?) -> DTLSContext?)?

    private init(
        server: Bool,
        pinned: Bool = false,
        verifiesClients: Bool = false,
        select: (@Sendable (String?) -> DTLSContext?)? = nil
    ) throws(DTLSError) {
        guard let handle = hop_context_new(server) else { throw .internalFailure("no DTLS context can be made") }
        self.handle = handle
        isServer = server
        isPinned = pinned
        self.verifiesClients = verifiesClients
        selectContext = select
    }

    /// Lets the process end while threads still use OpenSSL. Called once, before any other use of OpenSSL.
    package static func permitExitWhileInUse() { hop_keep_at_exit() }

    deinit {
        hop_context_free(handle)
    }

    /// Creates the context of a server. Throws `.configuration` if a certificate, the key or the protocols cannot be
    /// used.
    package static func server(_ configuration: DTLSServerConfiguration) throws(DTLSError) -> DTLSContext {
        let context = try DTLSContext(
            server: true,
            verifiesClients: configuration.clientTrustPEM != nil,
            select: configuration.selectContext
        )
        try context.setALPN(configuration.alpn)
        try context.use(configuration.identity)
        if let pem = configuration.clientTrustPEM {
            try context.trust(pem)
            hop_context_require_client(context.handle)
        }
        return context
    }

    /// Creates the context of a client. Throws `.configuration` if the trust or the protocols cannot be used.
    package static func client(_ configuration: DTLSClientConfiguration) throws(DTLSError) -> DTLSContext {
        var pinned = false
        if case .pin = configuration.trust { pinned = true }
        let context = try DTLSContext(server: false, pinned: pinned)
        try context.setALPN(configuration.alpn)
        if let identity = configuration.identity { try context.use(identity) }
        switch configuration.trust {
        case .systemRoots:
            guard hop_context_trust_system(context.handle) else {
                throw .configuration("the system's certificate authorities cannot be read")
            }
        case .caFile(let path):
            guard hop_context_trust_file(context.handle, path) else {
                throw .configuration("no certificate authority can be read from \(path)")
            }
        case .caPEM(let pem): try context.trust(pem)
        case .pin(let digest):
            guard digest.count == digestBytes else {
                throw .configuration("a pin is the \(digestBytes) bytes of a SHA-256, not \(digest.count)")
            }
            guard hop_context_trust_pin(context.handle, digest) else {
                throw .internalFailure("the pin cannot be set")
            }
        }
        return context
    }

    /// The most bytes of a client's certificate, with its headers in the handshake.
    package static let maxClientCertificate = HandshakeFilter.maxCertificateBytes

    private func use(_ identity: DTLSIdentity) throws(DTLSError) {
        let (chain, key) = (identity.certificateChainPEM, identity.privateKeyPEM)
        guard hop_context_use_chain(handle, chain, chain.count) else {
            throw .configuration("the certificate chain is not usable PEM, or longer than \(Self.maxChainBytes) bytes")
        }
        guard hop_context_use_key(handle, key, key.count) else {
            throw .configuration("the private key is not usable PEM, is encrypted, or belongs to another certificate")
        }
    }

    private func trust(_ pem: [UInt8]) throws(DTLSError) {
        guard hop_context_trust_pem(handle, pem, pem.count) else {
            throw .configuration("the certificate authority is not usable PEM")
        }
    }

    private static let digestBytes = HOP_DIGEST_BYTES
    private static let maxChainBytes = HOP_MAX_CHAIN_BYTES

    private func setALPN(_ protocols: [String]) throws(DTLSError) {
        var wire: [UInt8] = []
        for name in protocols {
            guard (1...255).contains(name.utf8.count) else {
                throw .configuration("an application protocol's name has 1 to 255 bytes, not \(name.utf8.count)")
            }
            wire.append(UInt8(name.utf8.count))
            wire.append(contentsOf: name.utf8)
        }
        guard hop_context_set_alpn(handle, wire, wire.count) else {
            throw .configuration("the application protocols are none, or longer than 255 bytes together")
        }
    }
}
