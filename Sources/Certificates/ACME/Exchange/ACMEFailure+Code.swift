extension ACMEFailure {
    /// Raw values are what status, metrics and the store show.
    package enum Code: String, Sendable, CaseIterable {
        // The CA's own (RFC 8555 section 6.7, RFC 9773 section 7.4, ACME profiles).
        case accountDoesNotExist, alreadyReplaced, badCSR, badNonce, badPublicKey, badSignatureAlgorithm, caa,
            connection
        case dns, externalAccountRequired, incorrectResponse, invalidContact, invalidProfile, malformed, orderNotReady
        case rateLimited, rejectedIdentifier, serverInternal, tls, unauthorized, unsupportedContact
        case unsupportedIdentifier, userActionRequired
        /// A type that is not known here.
        case other

        // Ours.
        /// The CA cannot be reached, or answers with server errors.
        case unavailable
        /// The CA's answer is not what the protocol says.
        case badAnswer
        /// The order took too long.
        case timedOut
        /// The order, or the right to a name, became invalid and the CA does not say why.
        case orderInvalid
        /// The account was closed.
        case accountClosed
        /// The certificate is not what was ordered.
        case wrongCertificate
        /// No kind of challenge that is offered may be used here.
        case noUsableChallenge
        /// The answer to a challenge could not be put in its place.
        case presentationFailed
        /// The CA's terms have to be agreed to first.
        case termsNotAgreed
        /// The CA does not list the profile.
        case profileNotOffered
    }
}

extension ACMEFailure.Code {
    /// Trying again changes nothing until a person has changed something.
    package var needsPerson: Bool {
        switch self {
        case .badCSR, .badPublicKey, .badSignatureAlgorithm, .caa, .externalAccountRequired, .invalidContact,
            .invalidProfile, .malformed, .rejectedIdentifier, .unsupportedContact, .unsupportedIdentifier,
            .userActionRequired, .accountClosed, .noUsableChallenge, .termsNotAgreed, .profileNotOffered:
            true
        case .accountDoesNotExist, .alreadyReplaced, .badNonce, .connection, .dns, .incorrectResponse, .orderNotReady,
            .rateLimited, .serverInternal, .tls, .unauthorized, .other, .unavailable, .badAnswer, .timedOut,
            .orderInvalid, .wrongCertificate, .presentationFailed:
            false
        }
    }

    /// The order that failed so is as good as before.
    var leavesOrder: Bool {
        switch self {
        case .badNonce, .rateLimited, .serverInternal, .unavailable, .timedOut, .noUsableChallenge, .presentationFailed:
            true
        default: false
        }
    }

    package var remedy: String {
        switch self {
        case .accountDoesNotExist:
            "the CA does not know the account even after it was registered again; look at the CA's status page"
        case .alreadyReplaced: "another order has replaced the certificate already; nothing needs to be done"
        case .badCSR: "the CA takes no request with these names or this key; order fewer or other names"
        case .badNonce: "the CA refused every nonce; if several servers stand behind its URL, they share none"
        case .badPublicKey, .badSignatureAlgorithm: "the CA takes no P-256 keys; use another CA"
        case .caa: "add a CAA record that allows this CA, or remove the one that forbids it: dig CAA NAME"
        case .connection:
            "the CA could not connect to the name; open port 80 (http-01) or 443 (tls-alpn-01) from the internet and "
                + "let the name's A and AAAA records point here"
        case .dns: "the CA found no usable record of the name; look at it with: dig NAME A; dig NAME AAAA"
        case .externalAccountRequired: "the CA wants an account of its own first; set acme.eab to what it gave you"
        case .incorrectResponse:
            "something else answered the challenge; see that port 80, or the TXT record, is this gateway's alone"
        case .invalidContact, .unsupportedContact: "set acme.email to an address that the CA takes, or leave it out"
        case .invalidProfile, .profileNotOffered: "set acme.profile to one that the CA offers, or leave it out"
        case .malformed: "the CA does not understand the request; see that the names and the directory URL are right"
        case .orderNotReady: "the CA did not get ready; nothing needs to be done, it is tried again"
        case .rateLimited:
            "wait: it is tried again when the CA allows it; fewer names or one wildcard need fewer orders"
        case .rejectedIdentifier: "the CA never issues for this name; use another name, or another CA"
        case .serverInternal, .unavailable: "look at the CA's status page and at the way to it (DNS, firewall, proxy)"
        case .tls:
            "the CA's TLS connection to port 443 failed; let it end here and not at a balancer, or use http-01"
        case .unauthorized:
            "the CA was not satisfied with the answer to its challenge; see that the name leads to this gateway and to "
                + "no other server, over IPv6 as well"
        case .unsupportedIdentifier: "the CA does not issue for this kind of name; leave it out, or use another CA"
        case .userActionRequired: "the CA wants something to be done at its site, mostly to agree to new terms"
        case .other: "the CA's words say what is wrong"
        case .badAnswer: "see that acme.ca is the directory URL of a CA, and that no proxy stands in between"
        case .timedOut: "the CA is slow; it is tried again with the same order"
        case .orderInvalid: "nothing needs to be done; it is tried again with a new order"
        case .accountClosed:
            "the account was closed at the CA; remove its key from the store to get a new account, then: "
                + "hopgate cert renew NAME"
        case .wrongCertificate: "the CA issued something else than was ordered; it is tried again with a new order"
        case .noUsableChallenge:
            "allow one of the offered kinds in acme.challenge; wildcards need dns-01, addresses cannot have it"
        case .presentationFailed: "see to the DNS hook, or to the store that the replicas share"
        case .termsNotAgreed: "read the terms and set acme.agree_to_terms: true"
        }
    }
}
