import ACME
package import Certificates
package import Formats
package import Store
import Synchronization

/// The renewals that were requested through the admin port, by number. A client receives the number and polls
/// ``report(_:)`` until the renewal is finished.
package final class RenewalJobs: Sendable {
    /// The maximum number of jobs; the oldest are removed.
    private static let limit = 256

    private struct State {
        /// The number of the latest job.
        var last: UInt64 = 0
        var jobs: [UInt64: Job] = [:]
    }

    private struct Job {
        /// Returns the lease that the renewal waits for.
        let leaseWait: @Sendable () -> LeaseWait?
        /// The outcome, or `nil` while the renewal is in progress.
        var outcome: RenewalOutcome?
    }

    private let state = Mutex(State())

    package init() {}

    /// Creates a job. `resolve` is to be called once, when the renewal has finished.
    ///
    /// - Parameter leaseWait: Returns the lease that the renewal waits for, or `nil` if it waits for none.
    package func create(
        _ leaseWait: @escaping @Sendable () -> LeaseWait?
    ) -> (number: UInt64, resolve: @Sendable (RenewalOutcome) -> Void) {
        let number = state.withLock { state in
            state.last += 1
            state.jobs[state.last] = Job(leaseWait: leaseWait)
            if state.jobs.count > Self.limit, let oldest = state.jobs.keys.min() { state.jobs[oldest] = nil }
            return state.last
        }
        return (number, { outcome in self.state.withLock { $0.jobs[number]?.outcome = outcome } })
    }

    /// Removes a job that could not be started.
    package func remove(_ number: UInt64) { state.withLock { $0.jobs[number] = nil } }

    /// The state of a job as a JSON object, or `nil` if there is none with this number.
    package func report(_ number: UInt64) -> [String: JSONValue]? {
        guard let job = state.withLock({ $0.jobs[number] }) else { return nil }
        var fields: [String: JSONValue] = ["ticket": .integer(Int64(clamping: number))]
        switch job.outcome {
        case nil:
            fields["state"] = .string("ordering")
            if let wait = job.leaseWait() {
                fields["lease"] = .string(wait.place)
                fields["lease_holder"] = wait.holder.map { .string($0) } ?? .null
            }
        case .issued(let notAfter)?:
            fields["state"] = .string("issued")
            fields["not_after"] = .string(notAfter.rfc3339)
        case .failed(let failure)?:
            fields["state"] = .string("failed")
            fields["code"] = .string(failure.code.rawValue)
            fields["error"] = .string("\(failure)")
        case .held(let until, let reason)?:
            fields["state"] = .string("held")
            fields["until"] = .string(until.rfc3339)
            fields["error"] = .string(reason)
        case .error(let reason)?:
            fields["state"] = .string("failed")
            fields["error"] = .string(reason)
        }
        return fields
    }
}
