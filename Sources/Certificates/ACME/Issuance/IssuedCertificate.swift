import Formats
import SwiftASN1

/// What an order was for: ready to be published. ``keyPEM`` is secret.
package struct IssuedCertificate: Equatable, Sendable {
    /// `fullchain.pem`: PEM blocks only, leaf first.
    package let chainPEM: [UInt8]
    /// `key.pem`: one PEM block.
    package let keyPEM: [UInt8]
    package let facts: CertificateFacts
    /// The directory URL of the CA that issued it.
    package let authority: ACMEURL

    init(_ chain: IssuedChain, key: LeafKey, authority: ACMEURL) {
        chainPEM = chain.documents.flatMap { Array(($0.pemString + "\n").utf8) }
        keyPEM = Array(key.pem.utf8)
        facts = CertificateFacts(chain.leaf)
        self.authority = authority
    }
}

extension IssuedCertificate: CustomStringConvertible {
    /// Without the key.
    package var description: String {
        "certificate \(facts.id) for \(facts.names.map(\.description).joined(separator: ", ")) until \(facts.notAfter)"
    }
}
