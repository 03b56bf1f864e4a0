package import NIOCore

/// A lease that was not released: it is held, or its holder has died.
package struct LeaseFinding: Equatable, Sendable {
    package let name: String
    /// The holder's host and process.
    package let holder: String
    package let timeToLive: TimeAmount
}

extension Volume {
    /// Returns the leases that were not released, in the order of their names.
    ///
    /// - Parameter end: The time at which the search stops, as on a volume that answers slowly.
    /// - Returns: The leases, and whether all were read.
    package func leases(until end: NIODeadline) -> (found: [LeaseFinding], isComplete: Bool) {
        var found: [LeaseFinding] = []
        let isComplete = addLeases(below: "locks", 0, end, &found)
        return (found, isComplete)
    }

    private func addLease(_ path: String, _ found: inout [LeaseFinding]) -> Bool {
        guard let key = try? StoreKey(String(path.dropFirst("locks/".count))) else { return true }
        let folder = LeaseFolder(volume: self, name: key)
        do throws(StoreError) {
            guard let top = try folder.epochs().last, let record = try folder.record(top)?.record, !record.isReleased
            else { return true }
            found.append(LeaseFinding(name: key.path, holder: record.name, timeToLive: record.timeToLive))
            return true
        } catch {
            return error.code == .notFound
        }
    }

    private func addLeases(
        below path: String,
        _ depth: Int,
        _ end: NIODeadline,
        _ found: inout [LeaseFinding]
    ) -> Bool {
        let names: [String]
        do throws(StoreError) {
            names = try namesIfPresent(in: path) ?? []
        } catch {
            // The inspection lists what is refused.
            return error.code == .refused
        }
        var isComplete = true
        // A folder of epochs is a lease, any other one is a part of names.
        if depth > 0, names.contains(where: { StoreNumber.parse(name: $0) != nil }) {
            isComplete = addLease(path, &found)
        }
        for name in names.sorted() where StoreNumber.parse(name: name) == nil && depth < StoreKey.depthLimit {
            guard now() < end else { return false }
            isComplete = addLeases(below: "\(path)/\(name)", depth + 1, end, &found) && isComplete
        }
        return isComplete
    }
}
