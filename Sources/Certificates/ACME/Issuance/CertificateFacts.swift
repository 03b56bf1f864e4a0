import Crypto
package import Formats
import FoundationEssentials
import SwiftASN1
import X509

/// What renewal has to know of a certificate.
package struct CertificateFacts: Equatable, Sendable {
    /// SHA-256 of its DER in hexadecimal.
    package let id: String
    package let names: [CertificateName]
    package let notBefore: UnixTime
    package let notAfter: UnixTime
    /// What it is called at its CA's (RFC 9773 section 4.1): the issuer's key identifier and the serial number. Nil if
    /// it has no key identifier, so that it cannot be asked for.
    package let renewalID: String?

    package init(_ certificate: ServerCertificate) {
        self.init(certificate.leaf)
    }

    init(_ leaf: Certificate) {
        var serializer = DER.Serializer()
        do {
            try serializer.serialize(leaf)
        } catch {
            preconditionFailure("what was parsed can be written: \(error)")
        }
        id = SHA256.hash(data: serializer.serializedBytes).hexadecimal
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

    /// - Parameter serial: the number, most significant byte first.
    package static func renewalID(authorityKey: [UInt8], serial: [UInt8]) -> String {
        // The content of a DER integer: no zeros in front but for one where the number would be negative otherwise.
        var integer = Array(serial.drop { $0 == 0 })
        if integer.first.map({ $0 >= 0x80 }) ?? true { integer.insert(0, at: 0) }
        return "\(Base64URL.encode(authorityKey)).\(Base64URL.encode(integer))"
    }
}

extension UnixTime {
    fileprivate init(_ date: Date) {
        // A year beyond all bounds is the last one.
        let seconds = date.timeIntervalSince1970
        self.init(seconds: seconds < 0 ? 0 : seconds > 1e12 ? .max : Int64(seconds))
    }
}
