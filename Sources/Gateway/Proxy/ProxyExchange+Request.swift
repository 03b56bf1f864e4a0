import HopProtocol
import NIOCore
import NIOHTTP1
import Transport
import Tunnel

/// The direction from the client to the agent.
extension ProxyExchange {
    /// The size up to which a piece of the body is copied behind its frame header, so that both travel as one buffer.
    private static let copiedBody = 4 * 1024

    func clientBody(_ bytes: ByteBuffer) {
        bytesIn += bytes.readableBytes
        guard state.takesBody, let stream else { return }
        if state.isAwaitingHead { replay.append(bytes) }
        writeData(bytes, to: stream)
        if !stream.isWritable { client?.pauseReading() }
    }

    func writeData(_ bytes: ByteBuffer, to stream: TunnelStream) {
        let count = bytes.readableBytes
        guard count > 0 else { return }
        var frame = ByteBuffer()
        if count <= Self.copiedBody {
            frame.reserveCapacity(count + MessageEncoder.maximumDataHeader)
            MessageEncoder.writeData(bytes, into: &frame)
            stream.write(frame)
        } else {
            MessageEncoder.writeDataHeader(length: count, into: &frame)
            stream.write(frame)
            stream.write(bytes)
        }
    }

    /// The whole request has arrived; behind a 101, the client has ended its direction.
    func clientEnded(trailers: HTTPHeaders?) {
        switch state.requestCompleted() {
        case .ignored: break
        case .complete(let startsTimer, let sendsTrailers, let finishes):
            if startsTimer { startResponseTimer(.now()) }
            if sendsTrailers, let trailers, let stream { writeTrailers(trailers, to: stream) }
            if finishes { stream?.finish() }
        case .directionEnded(let finishes, let concludes):
            if finishes { stream?.finish() }
            if concludes { _ = conclude(nil) }
        }
    }

    /// Writes the trailers that may be forwarded: none that frames, routes or authenticates (RFC 9110 §6.5.1). A
    /// request with trailers is not tried again.
    private func writeTrailers(_ trailers: HTTPHeaders, to stream: TunnelStream) {
        var section = FieldSection()
        for (name, value) in trailers where section.count < EdgeLimits.trailerFields {
            var value = value
            guard FieldKind.classify(name) == .init(kind: .other, isAlias: false),
                value.withUTF8({ ASCII.isFieldValue(UnsafeRawBufferPointer($0)) })
            else { continue }
            section.append(name: name, value: value)
        }
        guard !section.isEmpty else { return }
        replay.drop()
        var bytes = ByteBuffer()
        do {
            try MessageEncoder.writeTrailers(section, into: &bytes)
        } catch {
            clientFailed(.headTooLarge)
            return
        }
        stream.write(bytes)
    }

    /// The connection has ended.
    func clientGone() {
        guard !state.isOver else { return }
        if !state.hasResponded { status = ProxyError.clientGone.status }
        if state.isUpgraded, !state.isUploadOpen {
            stream?.stopSending(.cancelled)
        } else {
            resetForClient()
        }
        _ = conclude(state.isUpgraded ? nil : .clientGone)
    }

    /// The client violated the protocol or was too slow.
    func clientFailed(_ error: ProxyError) {
        guard !state.isOver else { return }
        resetForClient()
        fail(error)
    }

    private func resetForClient() {
        stream?.reset(.cancelled)
        stream?.stopSending(.cancelled)
    }

    /// The connection's socket has accepted everything: the agent gets credit for as much.
    func socketAcceptedBytes() {
        guard uncredited > 0 else { return }
        stream?.consumed(uncredited)
        uncredited = 0
    }
}
