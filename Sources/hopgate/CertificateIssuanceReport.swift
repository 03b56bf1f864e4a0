import ACME
import Certificates
import Formats
import Gateway
import Store

/// The store's records about one certificate from a CA: its renewal and the last error, as table rows and as JSON.
struct CertificateIssuanceReport {
    let key: StoreKey
    /// The directory URL of the CA that issued the present certificate, or `nil` if there is none.
    private let authority: String?
    private let renewal: UnixTime?
    private let state: RenewalState
    /// The hold of the first CA that accepts no orders.
    private let hold: AuthorityHold?

    /// Reads the records of a key.
    ///
    /// - Parameters:
    ///   - status: The status of the present certificate, or `nil` if there is none.
    ///   - authorities: The CAs whose holds are read, too, because they may be why there is none.
    init(
        _ key: StoreKey,
        _ status: CertificateStatus?,
        authorities: [String] = [],
        in store: any Store
    ) async throws {
        self.key = key
        let records = RenewalRecords(store)
        state = try await records.state(of: key)
        var hold: AuthorityHold?
        for authority in authorities where hold == nil { hold = try await records.hold(at: authority) }
        self.hold = hold
        authority = status?.authority
        guard let certificate = status?.certificate, authority != nil else {
            renewal = nil
            return
        }
        let facts = CertificateFacts(certificate)
        renewal = CertificateSituation(names: facts.names, facts: facts, issuer: authority, state: state).renewal?.at
    }

    /// Reads the records of a certificate. `nil` if it is not from the store, or neither issued nor ordered by a CA.
    init?(_ status: CertificateStatus, in store: any Store) async throws {
        guard status.source == .store, let key = try? StoreKey(status.place) else { return nil }
        try await self.init(key, status, in: store)
        guard authority != nil || hasFailed else { return nil }
    }

    /// The last error of the certificate, else that of its CA.
    private var lastError: RenewalState.LastError? { state.lastError ?? hold?.error }

    var hasFailed: Bool { lastError != nil }

    /// The time of the next attempt by the CA's clock, or `nil` if the last one succeeded. If it is not set, all CAs
    /// are on hold, and the latest hold counts.
    private var nextTry: UnixTime? {
        guard state.lastError != nil else { return hold?.notBefore }
        return state.nextTry ?? state.holds.values.max() ?? hold?.notBefore
    }

    var rows: [[String]] {
        var rows: [[String]] = []
        if let authority { rows.append(["ca", plain(authority)]) }
        if let renewal { rows.append(["next renewal", renewal.rfc3339]) }
        guard let error = lastError else { return rows }
        rows += [
            ["last error", "\(plain(error.code)), at \(error.at.rfc3339), from \(plain(error.authority))"],
            ["", plain(message(of: error))],
        ]
        if !error.remedy.isEmpty { rows.append(["remedy", plain(error.remedy)]) }
        if let nextTry { rows.append(["next try", nextTry.rfc3339]) }
        return rows
    }

    /// The records as JSON, with the members of `GET /v1/certificates`.
    var fields: [String: JSONValue] {
        [
            "ca": authority.map { .string($0) } ?? .null,
            "next_renewal": renewal.map { .string($0.rfc3339) } ?? .null,
            "next_try": nextTry.map { .string($0.rfc3339) } ?? .null,
            "failures": .integer(Int64(state.failures)),
            "last_error": lastError.map { .object($0.report) } ?? .null,
        ]
    }

    /// The message without the remedy, which is shown on a separate line.
    private func message(of error: RenewalState.LastError) -> String {
        let end = "; \(error.remedy)"
        return error.message.hasSuffix(end) ? String(error.message.dropLast(end.count)) : error.message
    }

    /// The text without control characters.
    private func plain(_ text: String) -> String { JSONValue.string(text).displayText ?? "" }
}
