import Certificates
import Formats
import Gateway
import Store

/// What the store knows about getting one certificate from a CA, for people and for programs.
struct CertificateIssuing {
    let key: StoreKey
    /// The directory URL of the CA that issued the present one.
    private let authority: String?
    private let renewal: UnixTime?
    private let state: RenewalState

    /// - Parameter status: of the present one; nil: there is none.
    init(_ key: StoreKey, _ status: CertificateStatus?, in store: any Store) async throws {
        self.key = key
        state = try await RenewalRecords(store).state(of: key)
        authority = status?.authority
        guard let certificate = status?.certificate, authority != nil else {
            renewal = nil
            return
        }
        let facts = CertificateFacts(certificate)
        renewal = CertificateSituation(names: facts.names, facts: facts, issuer: authority, state: state).renewal?.at
    }

    /// Nil for what does not come from the store, or has nothing to do with a CA.
    init?(_ status: CertificateStatus, in store: any Store) async throws {
        guard status.source == .store, let key = try? StoreKey(status.place) else { return nil }
        try await self.init(key, status, in: store)
        guard authority != nil || hasFailed else { return nil }
    }

    var hasFailed: Bool { state.lastError != nil }

    /// By the CA's clock. A CA that is left alone for a while holds up the name only where there is no other one.
    private var nextTry: UnixTime? { hasFailed ? state.nextTry ?? state.holds.values.max() : nil }

    var rows: [[String]] {
        var rows: [[String]] = []
        if let authority { rows.append(["ca", plain(authority)]) }
        if let renewal { rows.append(["next renewal", renewal.rfc3339]) }
        guard let error = state.lastError else { return rows }
        rows += [
            ["last error", "\(plain(error.code)), at \(error.at.rfc3339), from \(plain(error.authority))"],
            ["", plain(words(of: error))],
        ]
        if !error.remedy.isEmpty { rows.append(["remedy", plain(error.remedy)]) }
        if let nextTry { rows.append(["next try", nextTry.rfc3339]) }
        return rows
    }

    /// As `GET /v1/certificates` calls them.
    var fields: [String: JSONValue] {
        [
            "ca": authority.map { .string($0) } ?? .null,
            "next_renewal": renewal.map { .string($0.rfc3339) } ?? .null,
            "next_try": nextTry.map { .string($0.rfc3339) } ?? .null,
            "failures": .integer(Int64(state.failures)),
            "last_error": state.lastError.map { .object($0.report) } ?? .null,
        ]
    }

    /// The message without the remedy, which has a line of its own.
    private func words(of error: RenewalState.LastError) -> String {
        let end = "; \(error.remedy)"
        return error.message.hasSuffix(end) ? String(error.message.dropLast(end.count)) : error.message
    }

    /// Nothing that a terminal would obey.
    private func plain(_ text: String) -> String { JSONValue.string(text).word ?? "" }
}
