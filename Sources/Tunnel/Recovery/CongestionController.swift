package import NIOCore

/// Decides how many bytes may be in flight and how fast they leave. Called once an acknowledgement, never per packet.
package protocol CongestionController: Sendable {
    /// Bytes that may be in flight.
    var window: Int { get }
    /// Bytes a second at which packets should leave.
    func pacingRate(rtt: RTTEstimator) -> Double
    /// An ACK newly acknowledged `bytes` in flight, the latest of them sent at `sentAt`. `applicationLimited`: the
    /// window was not the limit, so it must not grow (RFC 9002 §7.8).
    mutating func acknowledged(bytes: Int, sentAt: NIODeadline, applicationLimited: Bool, now: NIODeadline)
    /// Packets were lost, the latest of them sent at `sentAt`.
    mutating func congestion(sentAt: NIODeadline, persistent: Bool, now: NIODeadline)
    /// The size of a full packet changed.
    mutating func setMaxPacketSize(_ size: Int)
}

/// NewReno, RFC 9002 §7 and appendix B.
package struct NewReno: CongestionController {
    package private(set) var window: Int
    private var slowStartThreshold = Int.max
    private var recoveryStart: NIODeadline?
    private var maxPacketSize: Int
    /// Bytes acknowledged in congestion avoidance since the window last grew.
    private var credit = 0

    /// Far above any path this controller suits; it keeps arithmetic and memory bounded.
    static let maximumWindow = 16 << 20

    package init(maxPacketSize: Int) {
        self.maxPacketSize = maxPacketSize
        window = min(10 * maxPacketSize, max(14_720, 2 * maxPacketSize))
    }

    private var minimumWindow: Int { 2 * maxPacketSize }
    private var isInSlowStart: Bool { window < slowStartThreshold }

    package func pacingRate(rtt: RTTEstimator) -> Double {
        // RFC 9002 §7.7 suggests 1.25 windows a round trip; slow start doubles in one, so it needs 2.
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
