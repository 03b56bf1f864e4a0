import ACME
import Formats
import NIOCore
import Synchronization

/// What this process knows of each CA: its directory, for some hours, and how far our clock is from its own.
final class ACMEDirectoryCache: Sendable {
    private static let directoryTime = TimeAmount.hours(6)

    /// A CA that has just failed is not asked by the next of many names.
    private static let failureTime = TimeAmount.seconds(30)

    private struct Entry {
        var directory: ACMEDirectory?
        var directoryEnd = NIODeadline.uptimeNanoseconds(0)
        var clock: ClockSkew?
        var failure: ACMEFailure?
        var failureEnd = NIODeadline.uptimeNanoseconds(0)
    }

    private let entries = Mutex<[String: Entry]>([:])
    /// Inquiries under way.
    private let registrations = Mutex<[String: Task<AccountRegistration.Outcome, Never>]>([:])

    /// Directory and account of a CA. A start with many names asks for them once: whoever comes while somebody asks
    /// hears the same.
    func registration(at authority: String, _ registration: AccountRegistration) async -> AccountRegistration.Outcome {
        let failure = entries.withLock { entries in
            entries[authority].flatMap { NIODeadline.now() < $0.failureEnd ? $0.failure : nil }
        }
        if let failure { return .failed(failure) }
        let task = registrations.withLock { registrations in
            if let running = registrations[authority] { return running }
            let task = Task {
                let outcome = await registration.run()
                if case .failed(let failure) = outcome, failure.mayTryNextAuthority {
                    self.recordFailure(failure, authority)
                }
                self.registrations.withLock { $0[authority] = nil }
                return outcome
            }
            registrations[authority] = task
            return task
        }
        // All of them end together, with the gateway.
        return await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
    }

    private func recordFailure(_ failure: ACMEFailure, _ authority: String) {
        entries.withLock { entries in
            entries[authority, default: Entry()].failure = failure
            entries[authority]?.failureEnd = .now() + Self.failureTime
        }
    }

    /// Nil when it has to be asked for.
    func directory(of authority: String, now: NIODeadline = .now()) -> ACMEDirectory? {
        entries.withLock { entries in
            guard let entry = entries[authority], now < entry.directoryEnd else { return nil }
            return entry.directory
        }
    }

    /// Keeps what a machine has learnt.
    ///
    /// - Parameter hasAnswered: the CA has, so that its clock is known.
    func update(
        _ authority: String,
        directory: ACMEDirectory?,
        clock: ClockSkew,
        hasAnswered: Bool,
        now: NIODeadline = .now()
    ) {
        entries.withLock { entries in
            var entry = entries[authority] ?? Entry()
            if let directory, directory != entry.directory || entry.directoryEnd <= now {
                entry.directory = directory
                entry.directoryEnd = now + Self.directoryTime
            }
            if hasAnswered { entry.clock = clock }
            entries[authority] = entry
        }
    }

    /// The directory is not what it was: a failure there asks for it anew.
    func removeDirectory(of authority: String) {
        entries.withLock { $0[authority]?.directory = nil }
    }

    /// Nil while the CA has not answered yet.
    func clock(of authority: String) -> ClockSkew? {
        entries.withLock { $0[authority]?.clock }
    }

    /// The CA's clock as far as it is known.
    func serverTime(at authority: String?, wall: UnixTime) -> UnixTime {
        (authority.flatMap { clock(of: $0) } ?? ClockSkew()).serverTime(at: wall)
    }
}
