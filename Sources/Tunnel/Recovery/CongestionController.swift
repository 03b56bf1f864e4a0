package import NIOCore

/// A congestion controller: decides the bytes in flight and the sending rate. Called once for each acknowledgement,
/// never for each packet.
package protocol CongestionController: Sendable {
    /// The bytes that may be in flight.
    var window: Int { get }
    /// Returns the sending rate in bytes per second.
    func pacingRate(rtt: RTTEstimator) -> Double
    /// Handles an ACK that newly acknowledged packets.
    ///
    /// - Parameters:
    ///   - bytes: The newly acknowledged bytes that were in flight.
    ///   - sentAt: The sending time of the latest of those packets.
    ///   - applicationLimited: Whether the window was not the limit, so that it must not grow (RFC 9002 §7.8).
    ///   - now: The current time.
    mutating func acknowledged(bytes: Int, sentAt: NIODeadline, applicationLimited: Bool, now: NIODeadline)
    /// Handles the loss of packets.
    ///
    /// - Parameters:
    ///   - sentAt: The sending time of the latest lost packet.
    ///   - persistent: Whether the losses establish persistent congestion (RFC 9002 §7.6).
    ///   - now: The current time.
    mutating func congestion(sentAt: NIODeadline, persistent: Bool, now: NIODeadline)
    /// Adopts another size of a full packet.
    mutating func setMaxPacketSize(_ size: Int)
}

/// The NewReno controller (RFC 9002 §7 and appendix B).
package struct NewReno: CongestionController {
    package private(set) var window: Int
    private var slowStartThreshold = Int.max
    private var recoveryStart: NIODeadline?
    private var maxPacketSize: Int
    /// The bytes acknowledged in congestion avoidance since the window last grew.
    private var credit = 0

    /// The upper bound of the window: far above any path that suits this controller. It bounds arithmetic and memory.
    static let maximumWindow = 16 << 20

    package init(maxPacketSize: Int) {
        self.maxPacketSize = maxPacketSize
        window = min(10 * maxPacketSize, max(14_720, 2 * maxPacketSize))
    }

    private var minimumWindow: Int { 2 * maxPacketSize }
    private var isInSlowStart: Bool { window < slowStartThreshold }

    package func pacingRate(rtt: RTTEstimator) -> Double {
        // RFC 9002 §7.7 suggests 1.25 windows per round trip. Slow start doubles the window in one round trip and so
        // needs 2.
        let gain = isInSlowStart ? 2.0 : 1.25
        return gain * Double(window) / (Double(max(rtt.smoothed.nanoseconds, 1)) / 1e9)
    }

    package mutating func acknowledged(bytes: Int, sentAt: NIODeadline, applicationLimited: Bool, now: NIODeadline) {
        if let recoveryStart, sentAt <= recoveryStart { return }
        guard !applicationLimited, window < Self.maximumWindow else { return }
        if isInSlowStart {
            window += bytes
        } else {
            credit += bytes
            if credit >= window {
                credit -= window
                window += maxPacketSize
            }
        }
    }

    package mutating func congestion(sentAt: NIODeadline, persistent: Bool, now: NIODeadline) {
        if recoveryStart.map({ sentAt > $0 }) ?? true {
            recoveryStart = now
            window = max(window / 2, minimumWindow)
            slowStartThreshold = window
            credit = 0
        }
        if persistent {
            window = minimumWindow
            recoveryStart = nil
        }
    }

    package mutating func setMaxPacketSize(_ size: Int) {
        maxPacketSize = size
        window = max(window, minimumWindow)
    }
}
