package import Formats

/// The budget of certificates on demand: the hosts for which a first order was granted within a week. The replicas
/// share one record in the store, so that neither a restart nor a further replica adds to it.
///
/// A replica reads the record, asks with ``request(_:for:limits:now:)`` for its waiting hosts, and replaces the record
/// by version. All times are by the CA's clock.
package struct IssuanceBudget: StoredRecord {
    /// The numbers of hosts that may get their first order. One token may use half of each, so that it cannot exclude
    /// the others.
    package struct Limits: Equatable, Sendable {
        package var perMinute: Int
        package var perWeek: Int

        package init(perMinute: Int, perWeek: Int) {
            self.perMinute = perMinute
            self.perWeek = perWeek
        }

        /// The part of a limit that one token may use.
        package static func share(_ limit: Int) -> Int { (limit + 1) / 2 }
    }

    package enum Decision: Equatable, Sendable {
        /// The order may start. Also for a host that was granted within the week, by any replica, which costs nothing.
        case granted
        /// - Parameter isWeekly: Whether a limit of the week was reached, not only one of the minute.
        case refused(until: UnixTime, isWeekly: Bool)
    }

    /// The largest ``Limits/perWeek``, so that the record stays below ``ACMELimits/document``.
    package static let mostPerWeek = 500
    private static let minute: Int64 = 60
    private static let week: Int64 = 7 * 86_400

    private struct Grant: Equatable {
        var token: String
        var at: UnixTime
    }

    private var grants: [String: Grant] = [:]
    package var others: [String: JSONValue] = [:]

    package init() {}

    /// Decides whether a host may have its first order.
    ///
    /// - Parameter token: The name of the token whose agent offers the host.
    package mutating func request(
        _ host: CertificateName,
        for token: String,
        limits: Limits,
        now: UnixTime
    ) -> Decision {
        grants = grants.filter { now - $0.value.at < Self.week }
        guard grants[host.description] == nil else { return .granted }
        let all = grants.values.map(\.at).sorted()
        let own = grants.values.filter { $0.token == token }.map(\.at).sorted()
        let weekly = [
            Self.end(of: all, limits.perWeek, Self.week, now),
            Self.end(of: own, Limits.share(limits.perWeek), Self.week, now),
        ]
        let minutely = [
            Self.end(of: all, limits.perMinute, Self.minute, now),
            Self.end(of: own, Limits.share(limits.perMinute), Self.minute, now),
        ]
        if let until = (weekly + minutely).compactMap(\.self).max() {
            return .refused(until: until, isWeekly: weekly.contains { $0 != nil })
        }
        grants[host.description] = Grant(token: token, at: now)
        return .granted
    }

    /// Returns the time from which fewer than `limit` grants lie within the window, or `nil` if it is now.
    ///
    /// - Parameter times: The times of the grants, sorted. One that is later than now, by a replica whose clock is
    ///   ahead, counts for the week only.
    private static func end(of times: [UnixTime], _ limit: Int, _ window: Int64, _ now: UnixTime) -> UnixTime? {
        guard limit > 0 else { return now + window }
        let recent = times.filter { now - $0 < window && $0 - now < window }
        return recent.count < limit ? nil : recent[recent.count - limit] + window
    }

    // MARK: The record

    package init(_ record: DocumentReader) throws(ACMEMessageError) {
        guard let reader = try record.object("grants") else { return }
        for host in reader.fields.keys {
            let parts = try reader.string(host).split(separator: " ", maxSplits: 1)
            guard parts.count == 2, let at = UnixTime(rfc3339: String(parts[0])) else {
                throw reader.error(host, "is not a time and a token")
            }
            grants[host] = Grant(token: String(parts[1]), at: at)
        }
    }

    package var fields: [String: JSONValue] {
        ["grants": .object(grants.mapValues { .string("\($0.at.rfc3339) \($0.token)") })]
    }
}
