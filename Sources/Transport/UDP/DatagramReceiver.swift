package import NIOCore
import NIOPosix

/// The receiver of a socket's datagrams. There is one for each socket; all methods are called on its loop.
package protocol DatagramSink: AnyObject {
    /// The socket has been read; datagrams follow.
    func receiveBegins()
    /// One datagram has arrived, after the kernel's coalescing was undone. The bytes are invalid after the call.
    ///
    /// - Parameter local: The address that it was sent to, or `nil` if the socket has only one.
    func received(
        _ datagram: UnsafeRawBufferPointer,
        from address: UDPAddress,
        to local: UDPAddress?,
        socketAddress: SocketAddress
    )
    /// All datagrams of this read have been passed on.
    func receiveEnded()
    /// The kernel reported that no process listens at the peer's port (ECONNREFUSED).
    func peerRefused()
    /// NIO closed the channel, because of a read error or at its owner's request.
    func channelClosed()
}

/// Reads one socket through NIO: collects a vector of coalesced datagrams, then passes on every single datagram.
package final class DatagramReceiver<Sink: DatagramSink>: ChannelInboundHandler {
    package typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private weak var sink: Sink?
    private let counters: TransportCounters
    /// Slices of NIO's receive buffers, kept only until the read completes, since NIO then reuses the memory.
    private var envelopes: [AddressedEnvelope<ByteBuffer>] = []

    package init(sink: Sink, counters: TransportCounters) {
        self.sink = sink
        self.counters = counters
        envelopes.reserveCapacity(16)
    }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        envelopes.append(unwrapInboundIn(data))
    }

    package func channelReadComplete(context: ChannelHandlerContext) {
        guard !envelopes.isEmpty else { return }
        if let sink {
            sink.receiveBegins()
            for envelope in envelopes {
                deliver(envelope, to: sink)
            }
            envelopes.removeAll(keepingCapacity: true)
            sink.receiveEnded()
        } else {
            envelopes.removeAll(keepingCapacity: true)
        }
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // NIO itself closes the channel for any other read error; that arrives in channelInactive.
        if let error = error as? IOError, error.errnoCode == DatagramErrno.connectionRefused {
            sink?.peerRefused()
        }
    }

    package func channelInactive(context: ChannelHandlerContext) {
        envelopes.removeAll()
        sink?.channelClosed()
    }

    private func deliver(_ envelope: AddressedEnvelope<ByteBuffer>, to sink: Sink) {
        counters.readsIn.add(1)
        let count = envelope.data.readableBytes
        counters.bytesIn.add(count)
        guard let address = UDPAddress(envelope.remoteAddress) else { return }
        let local = envelope.metadata?.packetInfo.flatMap { UDPAddress($0.destinationAddress) }
        let coalesced = envelope.metadata?.segmentSize ?? 0
        let segmentSize = coalesced > 0 ? coalesced : max(count, 1)
        let datagrams = max(1, (count &+ segmentSize &- 1) / segmentSize)
        counters.datagramsIn.add(datagrams)
        if address.port == 0 {
            counters.droppedPortZero.add(datagrams)
            return
        }
        if count == 0 {
            counters.droppedInvalid.add(1)
            return
        }
        envelope.data.withUnsafeReadableBytes { bytes in
            var offset = 0
            while offset < count {
                let end = min(offset &+ segmentSize, count)
                sink.received(
                    UnsafeRawBufferPointer(rebasing: bytes[offset..<end]),
                    from: address,
                    to: local,
                    socketAddress: envelope.remoteAddress
                )
                offset = end
            }
        }
    }
}

@available(*, unavailable)
extension DatagramReceiver: Sendable {}

/// The NIO channel that reads one of our sockets.
package enum DatagramChannel {
    /// The number of datagrams per `recvmmsg`.
    package static var messagesPerRead: Int { 4 }
    /// The bytes of each slot. A slot must take the largest coalesced read; the kernel truncates without an error.
    package static var slotBytes: Int { 65_536 }

    /// Starts to read `socket` on `loop`, which must be the current loop.
    package static func open<Sink: DatagramSink>(
        _ socket: UDPSocket,
        on loop: any EventLoop,
        sink: Sink,
        counters: TransportCounters
    ) throws(TransportError) -> EventLoopFuture<any Channel> {
        loop.preconditionInEventLoop()
        let receiver = NIOLoopBound(DatagramReceiver(sink: sink, counters: counters), eventLoop: loop)
        let allocator = FixedSizeRecvByteBufferAllocator(capacity: Self.messagesPerRead * Self.slotBytes)
        var bootstrap = DatagramBootstrap(group: loop)
            .channelOption(.datagramVectorReadMessageCount, value: Self.messagesPerRead)
            .channelOption(.recvAllocator, value: allocator)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(receiver.value)
                }
            }
        if socket.coalescesReads {
            bootstrap = bootstrap.channelOption(.datagramReceiveOffload, value: true)
                .channelOption(.datagramReceiveSegmentSize, value: true)
        }
        let opening = bootstrap.withBoundSocket(try socket.duplicate())
        guard socket.reportsLocalAddress else { return opening }
        // Makes NIO parse the reports. It accepts this option only once the channel knows its own address.
        return opening.flatMap { channel in channel.setOption(.receivePacketInfo, value: true).map { channel } }
    }
}
