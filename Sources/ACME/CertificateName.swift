import Formats
import SwiftASN1
package import X509

/// A name in a certificate, in the canonical form in which names are compared: a DNS name in lower case without a
/// trailing dot, `*.` followed by a DNS name, or an IP address in its canonical text form.
package enum CertificateName: Hashable, Sendable, Comparable, CustomStringConvertible {
    case dns(String)
    case address(String)

    /// Creates a name from text, or returns `nil` if no certificate can hold it.
    package init?(_ text: String) {
        if let bytes = IPAddressText.bytes(text) {
            self = .address(IPAddressText.text(of: bytes))
            return
        }
        var name = text.lowercased()
        if name.hasSuffix(".") { name.removeLast() }
        let host = name.hasPrefix("*.") ? name.dropFirst(2) : name[...]
        guard DNSName.syntax(of: host.utf8) != nil else { return nil }
        self = .dns(name)
    }

    package var description: String {
        switch self {
        case .dns(let name), .address(let name): name
        }
    }

    package static func < (left: CertificateName, right: CertificateName) -> Bool {
        left.description < right.description
    }

    package var generalName: GeneralName {
        switch self {
        case .dns(let name): .dnsName(name)
        case .address(let text): .ipAddress(ASN1OctetString(contentBytes: (IPAddressText.bytes(text) ?? [])[...]))
        }
    }

    /// Creates a name from an entry of a certificate, or returns `nil` if the entry is of a kind that identifies no
    /// server.
    package init?(_ name: GeneralName) {
        switch name {
        case .dnsName(let text):
            guard let name = CertificateName(text), case .dns = name else { return nil }
            self = name
        case .ipAddress(let octets):
            guard octets.bytes.count == 4 || octets.bytes.count == 16 else { return nil }
            self = .address(IPAddressText.text(of: Array(octets.bytes)))
        default: return nil
        }
    }
}
