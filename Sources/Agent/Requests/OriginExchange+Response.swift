import HopProtocol
import NIOCore
import Observability
import Transport
import Tunnel

/// The direction from the origin to the stream. The connection calls on the exchange's event loop.
extension OriginExchange: OriginConnectionDelegate {
    func originInterimHead(_ head: ResponseHead) { write(head) }

    func originHead(_ head: ResponseHead) {
        deadline = .distantFuture
        let acceptsUpgrade = head.status == 101 && self.head.map { Self.isUpgrade(head, of: $0) } ?? false
        let action = machine.responseHeadReceived(status: head.status, acceptsUpgrade: acceptsUpgrade)
        switch action {
        case .ignore: break
        case .abort(let code): abort(code)
        case .forward, .forwardAndUpgrade:
            pool?.metrics.count(status: head.status)
            write(head)
            if action == .forwardAndUpgrade { upgrade() }
        }
    }

    /// Whether the response names a protocol that the request has offered (RFC 9110 §15.2.2).
    private static func isUpgrade(_ head: ResponseHead, of request: RequestHead) -> Bool {
        guard let offered = request.upgrade, let chosen = head.fields.first("upgrade") else { return false }
        let offers = offered.split(separator: ",").map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
        return offers.contains(chosen.lowercased())
    }

    private func upgrade() {
        guard let connection else { return }
        let action = machine.upgraded()
        guard action != .ignore else { return }
        decoder.upgraded()
        let rest = connection.switchToRaw()
        if rest.readableBytes > 0 { originRaw(rest) }
        if action == .relayAndCloseOutput { connection.closeOutput() }
    }

    func originBody(_ bytes: ByteBuffer) { writeData(bytes) }

    func originRaw(_ bytes: ByteBuffer) { writeData(bytes) }

    private func writeData(_ bytes: ByteBuffer) {
        let count = bytes.readableBytes
        context.metrics.responseBytes.increment(by: count)
        MessageEncoder.writeDataHeader(length: count, into: &pendingFrames)
        if count <= Self.copyLimit {
            pendingFrames.writeImmutableBuffer(bytes)
        } else {
            flushResponse()
            stream.write(bytes)
        }
    }

    private func write(_ head: ResponseHead) {
        do throws(HopError) {
            try MessageEncoder.writeResponseHead(head, into: &pendingFrames)
        } catch {
            abort(.originProtocol)
        }
    }

    func originEnd(_ trailers: FieldSection?) {
        if let trailers {
            do throws(HopError) {
                try MessageEncoder.writeTrailers(trailers, into: &pendingFrames)
            } catch {
                return abort(.originProtocol)
            }
        }
        guard let ending = machine.responseEnded() else { return }
        flushResponse()
        stream.finish()
        if ending.stopsUpload { stream.stopSending(.noError) }
        finish(ending)
    }

    func originRawEnded() {
        let action = machine.rawResponseEnded()
        guard action != .ignore else { return }
        flushResponse()
        stream.finish()
        if case .finishAndEnd(let ending) = action { finish(ending) }
    }

    func originReadComplete() -> Bool {
        flushResponse()
        return !isDone && stream.isWritable
    }

    /// Writes the pending frames to the stream.
    func flushResponse() {
        guard pendingFrames.readableBytes > 0 else { return }
        let frames = pendingFrames
        pendingFrames = ByteBuffer()
        stream.write(frames)
    }

    func originFailed(_ error: OriginError) {
        guard let connection else { return }
        let action = machine.connectionFailed(
            isTruncated: error.code == .truncated,
            isStale: !connection.isFresh && !connection.hasResponseStarted,
            isIdempotent: head?.isIdempotent ?? false
        )
        self.connection = nil
        switch action {
        case .ignore: break
        case .retry:
            context.metrics.stalePooled.increment()
            connect()
        case .abort(let code): abort(code)
        }
    }
}
