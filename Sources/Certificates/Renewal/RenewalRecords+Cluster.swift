package import ACME
package import Formats
package import Store

/// The records that belong to no certificate: the budget of certificates on demand, and the holds of CAs. They are
/// written without a lease: of several replicas that replace the same version one succeeds, and the others decide
/// again.
extension RenewalRecords {
    package static let budget: StoreKey = "acme/on-demand/budget"
    package static let authorities: StoreKey = "acme/authorities"

    /// Requests the first orders for hosts from the budget of the cluster. A damaged record is treated as
    /// missing.
    package func requestOrders(
        for hosts: [WaitingHosts.Entry],
        limits: IssuanceBudget.Limits,
        now: UnixTime
    ) async throws(StoreError) -> [IssuanceBudget.Decision] {
        try await store.retrying(Self.budget) { () throws(StoreError) in
            let stored = try await readRemovingDamage(Self.budget)
            let old: IssuanceBudget? = try Self.parse(stored, Self.budget)
            var budget = old ?? IssuanceBudget()
            let decisions = hosts.map { budget.request($0.host, for: $0.token, limits: limits, now: now) }
            if budget != old ?? IssuanceBudget() {
                _ = try await write(budget.json, to: Self.budget, replacing: stored?.version)
            }
            return decisions
        }
    }

    /// Returns the hold of a CA, or `nil` if there is none or it is damaged.
    package func hold(at authority: String) async throws(StoreError) -> AuthorityHold? {
        try await record(Self.authority(authority))
    }

    /// Returns the hold of a CA with its version, or `nil` if there is none. A damaged record is removed.
    func holdRemovingDamage(at authority: String) async throws(StoreError) -> (hold: AuthorityHold, version: UInt64)? {
        let key = Self.authority(authority)
        guard let stored = try await readRemovingDamage(key) else { return nil }
        guard let hold: AuthorityHold = try Self.parse(stored, key) else {
            try await store.write(key, .remove(stored.version))
            return nil
        }
        return (hold, stored.version)
    }

    /// Writes the hold of a CA, and returns its version.
    ///
    /// - Parameter version: The version that it replaces, or `nil` if there is none.
    func write(
        _ hold: AuthorityHold,
        at authority: String,
        replacing version: UInt64?
    ) async throws(StoreError) -> UInt64 {
        try await write(hold.json, to: Self.authority(authority), replacing: version)
    }

    func removeHold(at authority: String, version: UInt64) async throws(StoreError) {
        try await store.write(Self.authority(authority), .remove(version))
    }

    private static func authority(_ directory: String) -> StoreKey { child(authorities, Fingerprint.of(directory)) }

    private func write(
        _ bytes: [UInt8],
        to key: StoreKey,
        replacing version: UInt64?
    ) async throws(StoreError) -> UInt64 {
        try await store.write(key, version.map { .replace($0, bytes) } ?? .create(bytes))
    }
}
