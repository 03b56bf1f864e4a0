package import NIOCore

/// The retransmission timer of handshake flights (RFC 6347 §4.2.4.1), and the source of the first round-trip estimate.
///
/// It replaces OpenSSL's timer, which reads the wall clock. A pure value, owned by one session.
package struct DTLSHandshakeTimer: Sendable {
    /// The wait after a flight is first sent. It doubles with each retransmission.
    package static let initial: TimeAmount = .milliseconds(200)
    /// The time after which an incomplete handshake has failed.
    package static let overall: TimeAmount = .seconds(10)

    /// The deadline of the whole handshake.
    package let giveUp: NIODeadline
    /// The time at which the current flight is sent again, or `nil` if no flight of ours awaits an answer.
    package private(set) var retransmission: NIODeadline?
    /// The round trip of the last flight that was answered, or `nil` if that flight was sent more than once (Karn's
    /// rule).
    package private(set) var roundTrip: TimeAmount?

    private var interval = Self.initial
    private var sentAt: NIODeadline
    private var wasRetransmitted = false

    package init(now: NIODeadline) {
        giveUp = now + Self.overall
        sentAt = now
    }

    /// The next time at which the session has to handle a timeout.
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
