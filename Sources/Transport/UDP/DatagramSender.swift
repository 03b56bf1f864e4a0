import Glibc
import NIOCore

/// Sends sealed records on one socket. Confined to the loop that seals them.
///
/// The records of one burst lie back to back and leave in one `sendmsg`; with `UDP_SEGMENT` the kernel cuts them apart.
/// Each errno becomes the ``Outcome`` of one burst. At most one burst waits for room in the socket's buffer.
/// ``isBlocked`` is true meanwhile and nothing more may be sealed: a record that is sealed now and sent after many
/// later ones would fall out of the peer's replay window.
package final class DatagramSender {
    /// The outcome of sending a burst.
    package enum Outcome: Equatable {
        /// The kernel has accepted the burst, as far as it is going to.
        case sent
        /// The socket's buffer is full. The burst is kept: call ``retry()`` later and seal nothing meanwhile.
        case blocked
        /// The kernel reported that no process listens at the address, which indicates that the peer may be gone. The
        /// datagrams may have left or not.
        case refused
        /// A single datagram is larger than the path allows.
        case tooLarge
        /// The burst was dropped and counted.
        case failed(errno: CInt)
    }

    /// The sending state of one peer.
    package struct Path {
        package let address: UDPAddress?
        /// The address that the peer sends to and so expects answers from, or `nil` if the kernel may choose one.
        package var local: UDPAddress?
        /// Whether bursts are sent in one call to this peer. False once the kernel has refused to cut one.
        package var cutsBursts = true

        /// - Parameters:
        ///   - address: The destination, or `nil` on a connected socket.
        ///   - local: The source, or `nil` if the kernel may choose it.
        package init(address: UDPAddress?, local: UDPAddress? = nil) {
            self.address = address
            self.local = local
        }
    }

    /// The most segments of one `sendmsg` (`UDP_MAX_SEGMENTS` of older kernels). One call also holds at most one IP
    /// datagram, hence `maxBurstBytes`.
    package static let maxSegments = 64
    package static let maxBurstBytes = 65_000

    package let socket: UDPSocket
    let counters: TransportCounters
    /// Whether bursts are sent in one call. False once the device has reported that it cannot checksum cut datagrams
    /// (EIO).
    package private(set) var cutsBursts = true
    /// A hook for tests, called before each `sendmsg` with its segments and bytes. A returned errno replaces the call
    /// and its result; 0 loses the datagrams.
    package var injectedFailure: ((_ segments: Int, _ bytes: Int) -> CInt?)?

    private var pendingBurst: PendingBurst?

    package init(socket: UDPSocket, counters: TransportCounters) {
        self.socket = socket
        self.counters = counters
    }

    /// Whether a burst waits for room.
    package var isBlocked: Bool { pendingBurst != nil }

    /// Sends `burst`: datagrams of `segmentSize` bytes back to back, of which the last may be shorter.
    ///
    /// Must not be called while ``isBlocked``.
    package func send(_ burst: UnsafeRawBufferPointer, segmentSize: Int, path: inout Path) -> Outcome {
        precondition(pendingBurst == nil, "a burst was sealed while another waits")
        precondition(segmentSize > 0 && burst.count <= Self.maxBurstBytes, "a burst the kernel cannot take")
        return transmit(burst, segmentSize: segmentSize, path: &path)
    }

    /// Sends the pending burst again.
    ///
    /// - Returns: The outcome for the pending burst, or `.sent` if there is none.
    package func retry() -> Outcome {
        guard let pendingBurst else { return .sent }
        self.pendingBurst = nil
        var path = pendingBurst.path
        return pendingBurst.bytes.withUnsafeBytes { transmit($0, segmentSize: pendingBurst.segmentSize, path: &path) }
    }

    /// Drops the pending burst because its session is closed.
    package func discardPending() {
        pendingBurst = nil
    }

    private func transmit(_ burst: UnsafeRawBufferPointer, segmentSize: Int, path: inout Path) -> Outcome {
        let segments = (burst.count &+ segmentSize &- 1) / segmentSize
        if segments == 1 || (cutsBursts && path.cutsBursts) {
            switch call(burst, segmentSize: segments == 1 ? nil : segmentSize, path: path) {
            case 0:
                counters.datagramsOut.add(segments)
                counters.burstsOut.add(1)
                return .sent
            case EIO where segments > 1:
                cutsBursts = false
                counters.burstsRefused.add(1)
            case EINVAL where segments > 1, EMSGSIZE where segments > 1:
                path.cutsBursts = false
                counters.burstsRefused.add(1)
            case let code:
                return settle(code, burst, segmentSize: segmentSize, datagrams: segments, path: path)
            }
        }
        return transmitOneByOne(burst, segmentSize: segmentSize, path: path)
    }

    private func transmitOneByOne(_ burst: UnsafeRawBufferPointer, segmentSize: Int, path: Path) -> Outcome {
        var offset = 0
        var outcome = Outcome.sent
        while offset < burst.count {
            let end = min(offset &+ segmentSize, burst.count)
            let code = call(UnsafeRawBufferPointer(rebasing: burst[offset..<end]), segmentSize: nil, path: path)
            if code == 0 {
                counters.datagramsOut.add(1)
                counters.burstsOut.add(1)
            } else {
                let rest = UnsafeRawBufferPointer(rebasing: burst[offset...])
                let failure = settle(code, rest, segmentSize: segmentSize, datagrams: 1, path: path)
                if failure == .blocked { return .blocked }
                if outcome == .sent { outcome = failure }
            }
            offset = end
        }
        return outcome
    }

    /// Converts an errno, other than those that lead to single datagrams, to an outcome.
    private func settle(
        _ code: CInt,
        _ burst: UnsafeRawBufferPointer,
        segmentSize: Int,
        datagrams: Int,
        path: Path
    ) -> Outcome {
        switch code {
        case EAGAIN, ENOBUFS:
            pendingBurst = PendingBurst(bytes: Array(burst), segmentSize: segmentSize, path: path)
            counters.burstsBlocked.add(1)
            return .blocked
        case ECONNREFUSED:
            counters.datagramsRefused.add(datagrams)
            return .refused
        case EMSGSIZE:
            counters.datagramsTooLarge.add(datagrams)
            return .tooLarge
        default:
            counters.datagramsFailed.add(datagrams)
            return .failed(errno: code)
        }
    }

    /// - Returns: 0 or an errno.
    private func call(_ bytes: UnsafeRawBufferPointer, segmentSize: Int?, path: Path) -> CInt {
        if let injectedFailure {
            let segments = segmentSize.map { (bytes.count &+ $0 &- 1) / $0 } ?? 1
            if let code = injectedFailure(segments, bytes.count) { return code }
        }
        var name = sockaddr_storage()
        var control = ControlMessages()
        if let local = path.local {
            control.append { local.writePacketInfo(to: $0) }
        }
        if let segmentSize {
            control.append { payload in
                payload.storeBytes(of: UInt16(truncatingIfNeeded: segmentSize), as: UInt16.self)
                return (LinuxOption.udpLevel, LinuxOption.udpSegment, 2)
            }
        }
        let controlBytes = control.count
        var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        return withUnsafeMutablePointer(to: &vector) { vector in
            withUnsafeMutablePointer(to: &control) { control in
                withUnsafeMutablePointer(to: &name) { name in
                    var header = msghdr()
                    if let address = path.address {
                        header.msg_namelen = address.write(to: &name.pointee)
                        header.msg_name = UnsafeMutableRawPointer(name)
                    }
                    header.msg_iov = vector
                    header.msg_iovlen = 1
                    if controlBytes > 0 {
                        header.msg_control = UnsafeMutableRawPointer(control)
                        header.msg_controllen = controlBytes
                    }
                    while true {
                        if sendmsg(socket.descriptor, &header, CInt(MSG_NOSIGNAL)) >= 0 { return 0 }
                        if errno != EINTR { return errno }
                    }
                }
            }
        }
    }
}

/// A burst that waits for room in the socket's buffer.
private struct PendingBurst {
    let bytes: [UInt8]
    let segmentSize: Int
    let path: DatagramSender.Path
}

/// Room for the control messages of one `sendmsg` (cmsg(3)): each is a header of 16 bytes and its payload, padded to 8.
private struct ControlMessages {
    // 72 bytes: two headers, the longest packet info and a segment size with their padding.
    private var bytes: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (
        0, 0, 0, 0, 0, 0, 0, 0, 0
    )
    private(set) var count = 0

    private static let headerBytes = 16

    /// Appends one message. `write` stores its payload and returns its level, type and size.
    mutating func append(_ write: (UnsafeMutableRawBufferPointer) -> (level: CInt, type: CInt, count: Int)) {
        let start = count
        count += withUnsafeMutableBytes(of: &bytes) { bytes in
            let message = UnsafeMutableRawBufferPointer(rebasing: bytes[start...])
            let payload = UnsafeMutableRawBufferPointer(rebasing: message[Self.headerBytes...])
            let (level, type, count) = write(payload)
            message.storeBytes(of: Self.headerBytes + count, as: Int.self)
            message.storeBytes(of: level, toByteOffset: 8, as: CInt.self)
            message.storeBytes(of: type, toByteOffset: 12, as: CInt.self)
            return Self.headerBytes + (count + 7) & ~7
        }
    }
}
