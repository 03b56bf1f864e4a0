package import Certificates
package import Formats
package import FoundationEssentials
import Store

/// One certificate as the admin port shows it: the served one, its renewal, or both.
package struct CertificateEntry: Sendable {
    /// The condition of a certificate. Each certificate is counted in one.
    package enum Condition: String, CaseIterable, Sendable {
        case good
        /// The newest one cannot be used, or the last order failed.
        case failing
        case expired
        case notValidYet = "not_valid_yet"
        /// The first order has not finished.
        case notIssued = "not_issued"
    }

    /// The path of the certificate file, or the key in the store.
    package let place: String
    private let served: CertificateStatus?
    private let renewal: RenewalStatus?

    /// Creates the entries of the certificates that are served or ordered, in the order of their places.
    package static func all(_ served: [CertificateStatus], _ renewals: [RenewalStatus]) -> [CertificateEntry] {
        var left = Dictionary(uniqueKeysWithValues: renewals.map { ($0.key.path, $0) })
        let entries = served.map { status in
            CertificateEntry(
                place: status.place,
                served: status,
                renewal: status.source == .store ? left.removeValue(forKey: status.place) : nil
            )
        }
        let others = left.map { CertificateEntry(place: $0.key, served: nil, renewal: $0.value) }
        return (entries + others).sorted { $0.place < $1.place }
    }

    /// A page of the certificates, or `nil` if the cursor is none.
    package static func page(_ entries: [CertificateEntry], after cursor: String?) -> [String: JSONValue]? {
        guard let after = cursor.map({ Base64URL.decode($0) }) ?? [] else { return nil }
        let place = String(decoding: after, as: UTF8.self)
        let now = Date()
        return AdminPage.answer(
            "certificates",
            count: entries.count,
            Array(entries.drop { $0.place <= place }),
            cursor: { Base64URL.encode($0.place.utf8) },
            { $0.document(now: now) }
        )
    }

    package func condition(now: Date) -> Condition {
        if served?.problem != nil || renewal?.lastError != nil { return .failing }
        guard let certificate = served?.certificate else { return .notIssued }
        let seconds = Int64(now.timeIntervalSince1970)
        if seconds > certificate.notValidAfter { return .expired }
        return seconds < certificate.notValidBefore ? .notValidYet : .good
    }

    /// The rank in a summary: failing certificates first, then those nearest to their expiry.
    func rank(now: Date) -> (Int, Int64) {
        (condition(now: now) == .failing ? 0 : 1, served?.certificate?.notValidAfter ?? .min)
    }

    package func document(now: Date) -> [String: JSONValue] {
        guard let served else {
            return (renewal?.report ?? [:]).merging([
                "source": .string(CertificateSource.store.rawValue), "place": .string(place),
                "state": .string(CertificateStatus.notIssued),
            ]) { $1 }
        }
        var fields = served.document(now: now)
        guard let renewal else { return fields }
        let names = fields["names"]
        // The renewal state has null for what is not known yet, before its first pass; the served certificate knows
        // more.
        fields.merge(renewal.report) { $1 == .null ? $0 : $1 }
        // The names of the certificate that is served, not those of the one to be ordered.
        if served.certificate != nil { fields["names"] = names }
        return fields
    }
}
