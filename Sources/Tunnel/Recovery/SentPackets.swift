import DequeModule
import NIOCore

/// A frame of a sent packet, kept so that its delivery or loss reaches the stream or limit concerned. Frames are
/// retransmitted, packets never (RFC 9000 §13.3).
enum SentFrame {
    case stream(StreamID, Range<UInt64>, fin: Bool)
    case acknowledgement(largest: UInt64)
    case resetStream(StreamID)
    case stopSending(StreamID)
    case maxData
    case maxStreamData(StreamID)
    case maxStreams
    case parameters
    case ping
    /// A report of a reached limit. It is never repeated, since the peer's next limit answers it.
    case blocked
}

/// The record of a sent packet.
struct SentPacket {
    enum State { case outstanding, acknowledged, lost, notTracked }
    var sentAt: NIODeadline
    var size: Int
    var state: State
    /// The index of the packet's first frame, counted from the start of the tunnel.
    var firstFrame: Int
    var frameCount: Int
}

/// The sent packets in the order of their numbers, from the oldest that is still outstanding. Two ring buffers, so that
/// no packet costs an allocation once they have grown.
struct SentPackets {
    private var packets: Deque<SentPacket> = []
    private var frames: Deque<SentFrame> = []
    private var firstNumber: UInt64 = 0
    private var firstFrameIndex = 0

    var nextNumber: UInt64 { firstNumber + UInt64(packets.count) }
    var oldest: UInt64 { firstNumber }
    var isEmpty: Bool { packets.isEmpty }

    /// Adds a frame of the next packet: frames added since the last packet belong to it.
    mutating func append(frame: SentFrame) { frames.append(frame) }

    var frameCursor: Int { firstFrameIndex + frames.count }

    mutating func append(packet: SentPacket) {
        packets.append(packet)
        trim()
    }

    func contains(_ number: UInt64) -> Bool { number >= firstNumber && number < nextNumber }

    subscript(number: UInt64) -> SentPacket {
        get { packets[Int(number - firstNumber)] }
        set { packets[Int(number - firstNumber)] = newValue }
    }

    /// Returns the sending time of the largest packet of an ACK if this ACK is the first to name it, else `nil` (RFC
    /// 9002 §5.1). The packet may be one that asked for no acknowledgement.
    mutating func claimSampleTime(_ number: UInt64) -> NIODeadline? {
        guard contains(number) else { return nil }
        switch self[number].state {
        case .outstanding: break
        case .notTracked: self[number].state = .acknowledged
        case .acknowledged, .lost: return nil
        }
        return self[number].sentAt
    }

    func frame(at index: Int) -> SentFrame { frames[index - firstFrameIndex] }

    /// Forgets packets at the front that are no longer outstanding.
    mutating func trim() {
        while let first = packets.first, first.state != .outstanding {
            packets.removeFirst()
            firstNumber += 1
            let done = first.firstFrame + first.frameCount - firstFrameIndex
            if done > 0 {
                frames.removeFirst(done)
                firstFrameIndex += done
            }
        }
    }
}
