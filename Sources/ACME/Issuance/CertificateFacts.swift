import Crypto
package import Formats
import FoundationEssentials
import SwiftASN1
package import X509

/// The properties of a certificate that renewal depends on.
package struct CertificateFacts: Equatable, Sendable {
    /// The SHA-256 of the DER encoding, in hexadecimal.
    package let id: String
    package let names: [CertificateName]
    package let notBefore: UnixTime
    package let notAfter: UnixTime
    /// The certificate's identifier for renewal information (RFC 9773 §4.1): the issuer's key identifier and the serial
    /// number. `nil` if the certificate has no authority key identifier, in which case the CA cannot be asked for it.
    package let renewalID: String?

    package init(_ leaf: Certificate) {
        var serializer = DER.Serializer()
        do {
            try serializer.serialize(leaf)
        } catch {
            preconditionFailure("what was parsed can be written: \(error)")
        }
        id = Hex.string(SHA256.hash(data: serializer.serializedBytes))
        names = (try? leaf.extensions.subjectAlternativeNames?.compactMap { CertificateName($0) }) ?? []
        notBefore = UnixTime(leaf.notValidBefore)
        notAfter = UnixTime(leaf.notValidAfter)
        let authority = try? leaf.extensions.authorityKeyIdentifier?.keyIdentifier
        renewalID = authority.map { Self.renewalID(authorityKey: Array($0), serial: Array(leaf.serialNumber.bytes)) }
    }

    package init(
        id: String,
        names: [CertificateName],
        notBefore: UnixTime,
        notAfter: UnixTime,
        renewalID: String?
    ) {
        self.id = id
        self.names = names
        self.notBefore = notBefore
        self.notAfter = notAfter
        self.renewalID = renewalID
    }

    /// Makes the identifier for renewal information (RFC 9773 §4.1).
    ///
    /// - Parameter serial: The serial number, most significant byte first.
    package static func renewalID(authorityKey: [UInt8], serial: [UInt8]) -> String {
        // The content of a DER integer: no leading zeros, except for one where the number would be negative otherwise.
        var integer = Array(serial.drop { $0 == 0 })
        if integer.first.map({ $0 >= 0x80 }) ?? true { integer.insert(0, at: 0) }
        return "\(Base64URL.encode(authorityKey)).\(Base64URL.encode(integer))"
    }
}

extension UnixTime {
    fileprivate init(_ date: Date) {
        // Dates that no 64-bit number of seconds can hold become the latest time.
        let seconds = date.timeIntervalSince1970
        self.init(seconds: seconds < 0 ? 0 : seconds > 1e12 ? .max : Int64(seconds))
    }
}
