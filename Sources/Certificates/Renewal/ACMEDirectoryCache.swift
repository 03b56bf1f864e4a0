import ACME
import Formats
import NIOCore
import Store
import Synchronization

/// A process-wide cache of each CA: its directory, for some hours, and the difference between its clock and this
/// machine's.
package final class ACMEDirectoryCache: Sendable {
    private static let directoryTime = TimeAmount.hours(6)

    private struct Entry {
        var directory: ACMEDirectory?
        var directoryEnd = NIODeadline.uptimeNanoseconds(0)
        var clock: ClockSkew?
    }

    private let entries = Mutex<[String: Entry]>([:])
    /// The callers that wait for a registration in progress, by directory URL.
    private let registrations = Mutex<[String: [CheckedContinuation<Registration?, Never>]]>([:])

    package init() {}

    private typealias Registration = Result<Result<AccountRecord, ACMEFailure>, StoreError>

    /// Registers the account at a CA. Concurrent callers share the registration of the first, so that a start with many
    /// names performs it once. All are cancelled together, at shutdown.
    func registration(by client: ACMEClient) async throws(StoreError) -> Result<AccountRecord, ACMEFailure> {
        let shared = await withCheckedContinuation { continuation in
            let isFirst = registrations.withLock { registrations in
                let isFirst = registrations[client.id] == nil
                registrations[client.id, default: []] += isFirst ? [] : [continuation]
                return isFirst
            }
            if isFirst { continuation.resume(returning: nil) }
        }
        if let shared { return try shared.get() }
        let outcome: Registration
        do throws(StoreError) {
            outcome = .success(try await client.register())
        } catch {
            outcome = .failure(error)
        }
        let waiting = registrations.withLock { $0.removeValue(forKey: client.id) } ?? []
        waiting.forEach { $0.resume(returning: outcome) }
        return try outcome.get()
    }

    /// Returns the cached directory, or `nil` if it has to be fetched.
    func directory(of authority: String, now: NIODeadline = .now()) -> ACMEDirectory? {
        entries.withLock { entries in
            guard let entry = entries[authority], now < entry.directoryEnd else { return nil }
            return entry.directory
        }
    }

    /// Stores what a state machine has learned.
    ///
    /// - Parameter clock: The difference to the CA's clock, or `nil` if the CA has not responded.
    func update(_ authority: String, directory: ACMEDirectory?, clock: ClockSkew?, now: NIODeadline = .now()) {
        entries.withLock { entries in
            var entry = entries[authority] ?? Entry()
            if let directory, directory != entry.directory || entry.directoryEnd <= now {
                entry.directory = directory
                entry.directoryEnd = now + Self.directoryTime
            }
            entry.clock = clock ?? entry.clock
            entries[authority] = entry
        }
    }

    /// Removes the directory after a failure that may be due to its age.
    func removeDirectory(of authority: String) {
        entries.withLock { $0[authority]?.directory = nil }
    }

    /// Returns the difference to the CA's clock, or `nil` if the CA has not responded yet.
    func clock(of authority: String) -> ClockSkew? {
        entries.withLock { $0[authority]?.clock }
    }

    /// Returns the present time by the CA's clock, or by this machine's if the difference is not known.
    func serverTime(at authority: String) -> UnixTime {
        (clock(of: authority) ?? ClockSkew()).serverTime(at: .now())
    }
}
