import Formats

/// The identifier of an order or authorization (RFC 8555 §7.1.3; RFC 8738 for addresses).
package struct ACMEIdentifier: Hashable, Sendable, CustomStringConvertible {
    package let type: String
    package let value: String

    package init(_ name: CertificateName) {
        switch name {
        case .dns(let name): (type, value) = ("dns", name)
        case .address(let address): (type, value) = ("ip", address)
        }
    }

    init(_ reader: DocumentReader) throws(ACMEMessageError) {
        type = UntrustedText.sanitised(try reader.string("type"), limit: 40)
        value = UntrustedText.sanitised(try reader.string("value"), limit: 260)
    }

    /// The name of the identifier, or `nil` if it is neither a DNS name nor an address.
    package var name: CertificateName? {
        guard let name = CertificateName(value) else { return nil }
        switch (type, name) {
        case ("dns", .dns), ("ip", .address): return name
        default: return nil
        }
    }

    package var description: String { value }

    var json: JSONValue { .object(["type": .string(type), "value": .string(value)]) }
}
