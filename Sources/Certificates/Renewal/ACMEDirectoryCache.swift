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
    /// The registrations in progress, by directory URL.
    private let registrations = Mutex<[String: Task<Registration, Never>]>([:])

    package init() {}

    private typealias Registration = Result<Result<AccountRecord, ACMEFailure>, StoreError>

    /// Registers the account at a CA. Concurrent callers share one registration, so that a start with many names performs
    /// it once.
    func registration(by client: ACMEClient) async throws(StoreError) -> Result<AccountRecord, ACMEFailure> {
        let task = registrations.withLock { registrations in
            if let running = registrations[client.id] { return running }
            let task = Task {
                let outcome: Registration
                do throws(StoreError) {
                    outcome = .success(try await client.register())
                } catch {
                    outcome = .failure(error)
                }
                self.registrations.withLock { $0[client.id] = nil }
                return outcome
            }
            registrations[client.id] = task
            return task
        }
        // All callers are cancelled together, at shutdown.
        let outcome = await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
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
