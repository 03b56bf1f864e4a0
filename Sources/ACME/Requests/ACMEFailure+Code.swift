extension ACMEFailure {
    /// The kind of a failure. Raw values are written to the status, the metrics and the store.
    package enum Code: String, Sendable, CaseIterable {
        // Error types of the standards (RFC 8555 §6.7, RFC 9773 §7.4, ACME profiles).
        case accountDoesNotExist, alreadyReplaced, badCSR, badNonce, badPublicKey, badSignatureAlgorithm, caa,
            connection
        case dns, externalAccountRequired, incorrectResponse, invalidContact, invalidProfile, malformed, orderNotReady
        case rateLimited, rejectedIdentifier, serverInternal, tls, unauthorized, unsupportedContact
        case unsupportedIdentifier, userActionRequired
        /// The CA sent an error type that this release does not know.
        case other

        // Kinds of this client.
        /// The CA cannot be reached, or responds with server errors.
        case unavailable
        /// The CA's response violates the protocol.
        case badAnswer
        /// The order took too long.
        case timedOut
        /// The order or an authorization became invalid without a reason.
        case orderInvalid
        /// The account was closed.
        case accountClosed
        /// The certificate is not what was ordered.
        case wrongCertificate
        /// None of the offered challenges may be used for the name.
        case noUsableChallenge
        /// The response to a challenge could not be made available.
        case presentationFailed
        /// The CA does not offer the profile.
        case profileNotOffered
    }
}

extension ACMEFailure.Code {
    /// Whether further attempts are useless until the operator has changed something.
    package var needsOperator: Bool {
        switch self {
        case .badCSR, .badPublicKey, .badSignatureAlgorithm, .caa, .externalAccountRequired, .invalidContact,
            .invalidProfile, .malformed, .rejectedIdentifier, .unsupportedContact, .unsupportedIdentifier,
            .userActionRequired, .accountClosed, .noUsableChallenge, .profileNotOffered:
            true
        case .accountDoesNotExist, .alreadyReplaced, .badNonce, .connection, .dns, .incorrectResponse, .orderNotReady,
            .rateLimited, .serverInternal, .tls, .unauthorized, .other, .unavailable, .badAnswer, .timedOut,
            .orderInvalid, .wrongCertificate, .presentationFailed:
            false
        }
    }

    /// Whether the order can still be used after a failure of this kind.
    package var keepsOrder: Bool {
        switch self {
        case .badNonce, .rateLimited, .serverInternal, .unavailable, .timedOut, .noUsableChallenge, .presentationFailed:
            true
        default: false
        }
    }

    package var remedy: String {
        switch self {
        case .accountDoesNotExist:
            "the CA does not know the account even after it was registered again; check the CA's status page"
        case .alreadyReplaced: "another order has replaced the certificate already; no action is needed"
        case .badCSR: "the CA rejects requests with these names or this key; order fewer or other names"
        case .badNonce: "the CA rejected every nonce; if several servers share its URL, they must share nonces"
        case .badPublicKey, .badSignatureAlgorithm: "the CA accepts no P-256 keys; use another CA"
        case .caa: "add a CAA record that allows this CA, or remove the one that forbids it: dig CAA NAME"
        case .connection:
            "the CA could not connect to the name; open port 80 (http-01) or 443 (tls-alpn-01) from the internet and "
                + "make the name's A and AAAA records point here"
        case .dns: "the CA found no usable record of the name; check it with: dig NAME A; dig NAME AAAA"
        case .externalAccountRequired:
            "the CA requires a customer account first; set acme.eab to the credentials it issued"
        case .incorrectResponse:
            "another server answered the challenge; make sure that port 80, or the TXT record, is this gateway's alone"
        case .invalidContact, .unsupportedContact: "set acme.email to an address that the CA accepts, or leave it out"
        case .invalidProfile, .profileNotOffered: "set acme.profile to one that the CA offers, or leave it out"
        case .malformed: "the CA does not understand the request; check the names and the directory URL"
        case .orderNotReady: "the order did not become ready; no action is needed, it is retried"
        case .rateLimited:
            "wait: it is retried when the CA allows it; fewer names or one wildcard need fewer orders"
        case .rejectedIdentifier: "the CA never issues for this name; use another name, or another CA"
        case .serverInternal, .unavailable: "check the CA's status page and the connection to it (DNS, firewall, proxy)"
        case .tls:
            "the CA's TLS connection to port 443 failed; terminate it here and not at a load balancer, or use http-01"
        case .unauthorized:
            "the CA rejected the response to its challenge; make sure that the name leads to this gateway and to "
                + "no other server, over IPv6 as well"
        case .unsupportedIdentifier: "the CA does not issue for this kind of name; leave it out, or use another CA"
        case .userActionRequired: "the CA requires an action on its website, usually agreeing to new terms"
        case .other: "see the message of the CA"
        case .badAnswer: "make sure that acme.ca is the directory URL of a CA, and that no proxy is in between"
        case .timedOut: "the CA is slow; the same order is continued"
        case .orderInvalid: "no action is needed; it is retried with a new order"
        case .accountClosed:
            "the account was closed at the CA; get a new one: hopgate acme forget-account, then: hopgate cert renew NAME"
        case .wrongCertificate: "the CA issued something else than was ordered; it is retried with a new order"
        case .noUsableChallenge:
            "allow one of the offered kinds in acme.challenge; wildcards need dns-01, addresses cannot have it"
        case .presentationFailed: "check the DNS hook, or the store that the replicas share"
        }
    }
}
