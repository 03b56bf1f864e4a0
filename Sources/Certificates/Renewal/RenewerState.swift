/// The state of one ``CertificateRenewer`` that its task and the threads of its clients share. The renewer guards it by
/// a lock.
///
/// A state machine without I/O: ``start()`` and ``stop()`` bracket the renewer's task, ``succeeded()`` and
/// ``failed()`` report each pass of its loop, and ``add(_:)`` comes from any thread. An input that has a consequence
/// returns it, and the caller performs it after it has left the lock.
package struct RenewerState {
    /// The life of the renewer.
    private enum Phase: Equatable {
        /// The renewer's task has not started. Requests wait for it.
        case created
        /// The renewer's task is running.
        ///
        /// - Parameter failures: The number of consecutive passes that have failed.
        case running(failures: Int)
        /// The renewer's task has ended. Requests are rejected.
        case stopped
    }

    /// The consequence of a request.
    package enum RequestAction: Equatable, Sendable {
        /// The request was recorded: wake the renewer's task.
        case wake
        /// The request cannot be served: complete it with ``RenewalOutcome/error(_:)``.
        case reject(RejectionReason)
    }

    package enum RejectionReason: Equatable, Sendable {
        /// The renewer has ended, so that a new one has to be asked.
        case stopped
        /// Too many requests are pending.
        case full
    }

    /// The pause after a failed pass. It doubles with each further one, up to more than half an hour: a CA is not asked
    /// again and again for what cannot be stored.
    package static let firstPause = Duration.seconds(5)
    package static let pauseDoublings = 9

    private var phase = Phase.created
    private var requests = PendingRenewals()

    package init() {}

    /// Starts the renewer's task. Returns `false` if it was started before.
    package mutating func start() -> Bool {
        guard phase == .created else { return false }
        phase = .running(failures: 0)
        return true
    }

    /// Adds a request for a new certificate.
    package mutating func add(_ completion: @escaping @Sendable (RenewalOutcome) -> Void) -> RequestAction {
        guard phase != .stopped else { return .reject(.stopped) }
        return requests.add(completion) ? .wake : .reject(.full)
    }

    /// Records a pass without an error.
    package mutating func succeeded() {
        if case .running = phase { phase = .running(failures: 0) }
    }

    /// Records a failed pass. Returns the pause before the next one.
    package mutating func failed() -> Duration {
        guard case .running(let failures) = phase else { return Self.firstPause }
        phase = .running(failures: failures + 1)
        return Self.firstPause * (1 << min(failures, Self.pauseDoublings))
    }

    /// Whether a pending request waits for another certificate than this one.
    ///
    /// - Parameter certificate: The ``ACME/CertificateFacts/id`` of the stored certificate, or `nil` if there is none.
    package mutating func hasRequest(beyond certificate: String?) -> Bool {
        requests.isPending(beyond: certificate)
    }

    /// Removes the pending requests, to be completed with an outcome.
    package mutating func removeRequests() -> [@Sendable (RenewalOutcome) -> Void] { requests.removeAll() }

    /// Ends the renewer. Returns the requests that are still pending.
    package mutating func stop() -> [@Sendable (RenewalOutcome) -> Void] {
        phase = .stopped
        return requests.removeAll()
    }
}

/// The requests for a new certificate that wait for its outcome.
private struct PendingRenewals {
    static let limit = 64

    private var completions: [@Sendable (RenewalOutcome) -> Void] = []
    /// The certificate that is to be replaced, or an empty text if there was none; `nil` until the store was read.
    private var replaced: String?

    /// Adds a request. Returns `false` if too many are pending.
    mutating func add(_ completion: @escaping @Sendable (RenewalOutcome) -> Void) -> Bool {
        guard completions.count < Self.limit else { return false }
        completions.append(completion)
        return true
    }

    /// Whether a request waits for another certificate than this one. The first one that is passed is the one to be
    /// replaced.
    mutating func isPending(beyond certificate: String?) -> Bool {
        guard !completions.isEmpty else { return false }
        let certificate = certificate ?? ""
        if replaced == nil { replaced = certificate }
        return replaced == certificate
    }

    mutating func removeAll() -> [@Sendable (RenewalOutcome) -> Void] {
        defer { self = PendingRenewals() }
        return completions
    }
}
