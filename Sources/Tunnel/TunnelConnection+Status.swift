package import NIOCore

/// What a driver publishes for other threads.
extension TunnelConnection {
    /// Nothing that asks for an acknowledgement is in flight.
    package var isQuiet: Bool { elicitingInFlight == 0 }

    /// When ``isSilent(now:)`` becomes true unless an acknowledgement comes; nil: nothing is in flight.
    package var silentAfter: NIODeadline? {
        guard isOpen, elicitingInFlight > 0 else { return nil }
        return lastProgress + max(.nanoseconds(3 * probeTimeout.nanoseconds), .seconds(1))
    }

    /// The peer closed, so nothing more is sent.
    package var isDraining: Bool {
        if case .draining = phase { return true }
        return false
    }
}
