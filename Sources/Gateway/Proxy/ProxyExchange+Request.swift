import HopProtocol
import NIOCore
import NIOHTTP1
import Transport

/// From the client to the agent.
extension ProxyExchange {
    /// Bodies up to this size are copied behind their frame header, to travel as one buffer.
    private static let copiedBody = 4 * 1024

    func clientBody(_ bytes: ByteBuffer) {
        bytesIn += bytes.readableBytes
        guard phase != .done, !isUploadStopped, !isUploadOver, let stream else { return }
        if phase == .awaitingHead { replay.keep(bytes) }
        if isUpgraded || phase == .awaitingHead || !request.isWebSocket { writeData(bytes, to: stream) }
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

    /// The whole request has arrived (behind a 101: the client's direction is over).
    func clientEnded(trailers: HTTPHeaders?) {
        guard phase != .done, !isRequestOver || isUpgraded else { return }
        isRequestOver = true
        if isUpgraded {
            finishUpload()
            concludeUpgrade()
            return
        }
        if phase == .awaitingHead { startResponseTimer(.now()) }
        guard !isUploadStopped else { return }
        if let trailers, let stream { writeTrailers(trailers, to: stream) }
        if !request.isWebSocket { finishUpload() }
    }

    /// RFC 9110 §6.5.1: what frames, routes or authenticates has no place in trailers. Trailers are not replayed.
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
            clientBroke(.headTooLarge)
            return
        }
        stream.write(bytes)
    }

    /// The connection is gone.
    func clientGone() {
        guard phase != .done else { return }
        if phase != .responding { status = ProxyError.clientGone.status }
        if isUpgraded, isUploadOver {
            stream?.stopSending(code: HopCode.cancelled.rawValue)
        } else {
            resetForClient()
        }
        _ = conclude(isUpgraded ? nil : .clientGone)
    }

    /// The client broke a rule or was too slow.
    func clientBroke(_ refusal: ProxyError) {
        guard phase != .done else { return }
        resetForClient()
        fail(refusal)
    }

    private func resetForClient() {
        stream?.reset(code: HopCode.cancelled.rawValue)
        stream?.stopSending(code: HopCode.cancelled.rawValue)
    }

    /// The socket took everything it was given: the agent may send as much again.
    func socketTookBytes() {
        guard untaken > 0 else { return }
        stream?.consumed(untaken)
        untaken = 0
    }
}
