import Glibc
import SwiftASN1
package import X509

/// A name in a certificate, in the canonical form in which names are compared: a DNS name in lower case without a
/// trailing dot, `*.` followed by a DNS name, or an IP address in its canonical text form.
package enum CertificateName: Hashable, Sendable, Comparable, CustomStringConvertible {
    case dns(String)
    case address(String)

    /// Creates a name from text, or returns `nil` if no certificate can hold it.
    package init?(_ text: String) {
        if let bytes = Self.addressBytes(text) {
            self = .address(Self.addressText(bytes))
            return
        }
        var name = text.lowercased()
        if name.hasSuffix(".") { name.removeLast() }
        let host = name.hasPrefix("*.") ? name.dropFirst(2) : name[...]
        guard Self.isHostName(host) else { return nil }
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
        case .address(let text): .ipAddress(ASN1OctetString(contentBytes: (Self.addressBytes(text) ?? [])[...]))
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
            self = .address(Self.addressText(Array(octets.bytes)))
        default: return nil
        }
    }

    /// Whether the name consists of labels of 1 to 63 lower-case letters, digits, `-` and `_`, 253 bytes in all.
    private static func isHostName(_ name: Substring) -> Bool {
        guard (1...253).contains(name.utf8.count) else { return false }
        return name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
            guard (1...63).contains(label.count), label.first != UInt8(ascii: "-"), label.last != UInt8(ascii: "-")
            else {
                return false
            }
            return label.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
        }
    }

    /// Parses an address into its 4 or 16 bytes in network order, or returns `nil` if the text is no address.
    static func addressBytes(_ text: String) -> [UInt8]? {
        // A C string ends at the first NUL, so `inet_pton` would ignore the rest of the text.
        guard !text.utf8.contains(0) else { return nil }
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 { return withUnsafeBytes(of: &four) { Array($0) } }
        var six = in6_addr()
        if inet_pton(AF_INET6, text, &six) == 1 { return withUnsafeBytes(of: &six) { Array($0) } }
        return nil
    }

    private static func addressText(_ bytes: [UInt8]) -> String {
        let family = bytes.count == 4 ? AF_INET : AF_INET6
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let written = inet_ntop(family, bytes, &text, socklen_t(text.count))
        precondition(written != nil, "an address of 4 or 16 bytes has a text form")
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
