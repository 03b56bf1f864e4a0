package import NIOCore

/// When a handshake flight is sent again (RFC 6347 §4.2.4.1), and the first estimate of the round trip.
///
/// Our own, because OpenSSL's reads the wall clock. Owned by one session; pure.
package struct DTLSHandshakeTimer: Sendable {
    /// The wait after a flight's first sending; it doubles with each further one.
    package static let initial: TimeAmount = .milliseconds(200)
    /// A handshake that takes longer has failed.
    package static let overall: TimeAmount = .seconds(10)

    /// The end of the whole handshake.
    package let giveUp: NIODeadline
    /// When the flight on its way is sent again; nil: we wait for nothing of ours to be answered.
    package private(set) var retransmission: NIODeadline?
    /// Of the last flight that was answered; nil when that one had been sent more than once (Karn's rule).
    package private(set) var roundTrip: TimeAmount?

    private var interval = Self.initial
    private var sentAt: NIODeadline
    private var wasRetransmitted = false

    package init(now: NIODeadline) {
        giveUp = now + Self.overall
        sentAt = now
    }

    package var deadline: NIODeadline {
        min(retransmission ?? giveUp, giveUp)
    }

    package mutating func flightSent(now: NIODeadline) {
        interval = Self.initial
        sentAt = now
        wasRetransmitted = false
        retransmission = now + interval
    }

    package mutating func flightAnswered(now: NIODeadline) {
        guard retransmission != nil else { return }
        retransmission = nil
        roundTrip = wasRetransmitted ? nil : now - sentAt
    }

    package mutating func flightRetransmitted(now: NIODeadline) {
        interval = interval + interval
        wasRetransmitted = true
        retransmission = now + interval
    }
}
