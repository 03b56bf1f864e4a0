package import NIOCore

/// State that a driver publishes to other threads.
extension TunnelConnection {
    /// Whether no packet that asks for an acknowledgement is in flight.
    package var isQuiet: Bool { elicitingInFlight == 0 }

    /// The time at which ``isSilent(now:)`` becomes true unless an acknowledgement arrives, or `nil` if nothing is in
    /// flight.
    package var silentAfter: NIODeadline? {
        guard isOpen, elicitingInFlight > 0 else { return nil }
        return lastProgress + max(.nanoseconds(3 * probeTimeout.nanoseconds), .seconds(1))
    }

    /// Whether the peer has closed the tunnel, so that nothing more is sent (RFC 9000 §10.2.2).
    package var isDraining: Bool {
        if case .draining = phase { return true }
        return false
    }
}
