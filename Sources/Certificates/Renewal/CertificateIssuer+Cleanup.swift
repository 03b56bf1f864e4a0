import ACME
import Formats
import NIOCore
import Store
import Synchronization

/// The removal of what is left of names that are no longer wanted: hosts on demand come and go.
///
/// A name is abandoned if this replica does not manage it, its certificate has expired, and no attempt was made or
/// planned by any replica for ``retention``. Its records of issuance are removed, and its certificate if it was ordered
/// on demand.
extension CertificateIssuer {
    /// The time in seconds that must have passed since a name was used, by the CA's clock.
    package static let retention: Int64 = 7 * 86_400
    /// The pause between two passes, to which up to a half is added, and the number of names of one pass.
    private static let pause = 600
    private static let slice = 64

    /// Removes abandoned records until the task is cancelled.
    func removeAbandonedRecords() async {
        var last: String?
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(Self.pause + Int.random(in: 0...Self.pause / 2)))
            if shared.store.state == .healthy { last = await removeAbandonedRecords(after: last) }
        }
    }

    /// Examines the next names in their order.
    ///
    /// - Parameter last: The last component of the key that was examined last, or `nil` to begin with the first.
    /// - Returns: The value for the next call.
    package func removeAbandonedRecords(after last: String?) async -> String? {
        // Without the clock of a CA nothing is known to have expired.
        guard let authority = settings.directories.first(where: { shared.directories.clock(of: $0) != nil }) else {
            return last
        }
        do throws(StoreError) {
            var names = Set(try await shared.store.list(RenewalRecords.names).map(\.name))
            names.formUnion(try await shared.store.list(RenewalRecords.orders).map(\.name))
            if settings.onDemand != nil {
                names.formUnion(try await shared.store.list(CertificateSet.prefix).filter(isOnDemand).map(\.name))
            }
            let next = names.filter { $0 > last ?? "" }.sorted().prefix(Self.slice)
            for name in next {
                guard !Task.isCancelled, let key = try? CertificateSet.prefix.child(name) else { return last }
                await removeRecords(of: key, authority)
            }
            return next.count < Self.slice ? nil : next.last
        } catch {
            return last
        }
    }

    private func isOnDemand(_ key: StoreKey) -> Bool {
        CertificateName(storeKey: key).flatMap { settings.onDemand?.covers($0) } ?? false
    }

    /// Removes the records of a name under its lease if it is abandoned. A name whose records cannot be read now is
    /// examined again in a later round.
    private func removeRecords(of key: StoreKey, _ authority: String) async {
        let now = shared.directories.serverTime(at: authority)
        guard state.withLock({ $0.renewers[key] == nil }), await isAbandoned(key, now) else { return }
        do throws(StoreError) {
            let lease = try await shared.certificates.lease(of: key, shared.leaseTimes)
            try await lease.perform { () throws(StoreError) in
                // The name may have been used while the lease was waited for.
                if await isAbandoned(key, now) { try await removeRecords(of: key, under: lease) }
            }
        } catch {
            guard error.code != .stalled else { return }
            shared.errors.record(error, for: CertificateName(storeKey: key).map { [$0] } ?? [])
        }
    }

    private func removeRecords(of key: StoreKey, under lease: any StoreLease) async throws(StoreError) {
        let found = try await shared.certificates.read(key)
        if found.authority != nil, isOnDemand(key), let name = CertificateName(storeKey: key) {
            try await shared.certificates.remove(key, under: lease)
            shared.onEvent(.removed(name))
        }
        for record in RenewalRecords.keys(of: key) { try await shared.store.removeIfPresent(record, under: lease) }
    }

    /// Whether the certificate of a name has expired, and the name was not used since, for ``retention``. `false` if
    /// that is not known.
    private func isAbandoned(_ key: StoreKey, _ now: UnixTime) async -> Bool {
        do {
            let found = try await shared.certificates.read(key)
            // A certificate that cannot be parsed stays.
            guard found.rejection == nil else { return false }
            var uses = [
                try await shared.records.state(of: key).lastUse,
                found.certificate.map { CertificateFacts($0).notAfter },
            ]
            uses.append(try await shared.records.order(of: key)?.created)
            // A key that was removed may still be listed. There is nothing to remove then.
            return uses.compactMap(\.self).max().map { now - $0 > Self.retention } ?? false
        } catch {
            return false
        }
    }
}
