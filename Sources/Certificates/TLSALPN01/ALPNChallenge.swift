package import ACME
import SwiftASN1
import X509

/// A name that a CA is about to validate by TLS-ALPN-01 (RFC 8737), and its key authorization.
///
/// Every replica creates its own certificate from the same challenge.
package struct ALPNChallenge: Hashable, Sendable {
    /// The protocol that a validator offers as the only one (RFC 8737 §4).
    package static let applicationProtocol = "acme-tls/1"

    /// A DNS name or an address, never a wildcard.
    package let name: CertificateName
    /// The token, `.` and the thumbprint of the account key (RFC 8555 §8.1).
    package let keyAuthorization: String

    /// - Throws: `.issuance` if the name is a wildcard or the text is not a key authorization.
    package init(name: CertificateName, keyAuthorization: String) throws(CertificatesError) {
        guard !name.description.hasPrefix("*.") else {
            throw CertificatesError(
                .issuance,
                name.description,
                "a wildcard cannot be validated by TLS-ALPN-01; use DNS-01 for it"
            )
        }
        guard Self.isKeyAuthorization(keyAuthorization) else {
            throw CertificatesError(
                .issuance,
                name.description,
                "the key authorization of its challenge is not token.thumbprint, both base64url"
            )
        }
        self.name = name
        self.keyAuthorization = keyAuthorization
    }

    /// The server name in the validator's hello: the name itself, or for an address its reverse mapping (RFC 8738 §6,
    /// RFC 1034 §5.2.1, RFC 3596 §2.5), since addresses are not allowed there.
    package var serverName: String {
        guard case .ipAddress(let octets) = name.generalName else { return name.description }
        if octets.bytes.count == 4 {
            return octets.bytes.reversed().map { "\($0)." }.joined() + "in-addr.arpa"
        }
        let nibbles = octets.bytes.reversed().flatMap { [$0 & 15, $0 >> 4] }
        return nibbles.map { String($0, radix: 16) + "." }.joined() + "ip6.arpa"
    }

    private static func isKeyAuthorization(_ text: String) -> Bool {
        guard text.utf8.count <= 512 else { return false }
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 2
            && parts.allSatisfy { part in
                !part.isEmpty
                    && part.allSatisfy { byte in
                        switch byte {
                        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                            true
                        default: false
                        }
                    }
            }
    }
}
