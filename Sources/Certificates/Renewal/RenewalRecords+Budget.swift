import ACME
import Formats
package import Store

/// The record of the budget of certificates on demand. It is written without a lease: of several replicas that replace
/// the same version one succeeds, and the others decide again.
extension RenewalRecords {
    package static let budget: StoreKey = "acme/on-demand/budget"

    /// Requests the first orders for hosts from the budget of the cluster. A record that cannot be parsed is treated as
    /// missing.
    func requestOrders(
        for hosts: [WaitingHosts.Entry],
        limits: IssuanceBudget.Limits,
        now: UnixTime
    ) async throws(IssuanceError) -> [IssuanceBudget.Decision] {
        for _ in 0..<Self.attempts {
            do throws(StoreError) {
                let stored = try await newest(Self.budget)
                let old = stored.flatMap { try? IssuanceBudget(json: $0.bytes, place: Self.budget.path) }
                var budget = old ?? IssuanceBudget()
                let decisions = hosts.map { budget.request($0.host, for: $0.token, limits: limits, now: now) }
                if budget == old || (stored == nil && budget == IssuanceBudget()) { return decisions }
                if let stored {
                    try await store.write(Self.budget, .replace(stored.version, budget.json))
                } else {
                    try await store.write(Self.budget, .create(budget.json))
                }
                return decisions
            } catch {
                switch error.code {
                case .exists, .conflict, .unconfirmed: continue
                default: throw IssuanceError(error)
                }
            }
        }
        throw IssuanceError("\(Self.budget): changes faster than it can be replaced; trying again")
    }

    private func newest(_ key: StoreKey) async throws(StoreError) -> StoredValue? {
        do throws(StoreError) {
            return try await store.read(key)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
    }
}
