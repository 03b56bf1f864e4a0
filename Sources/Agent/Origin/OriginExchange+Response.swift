import HopProtocol
import NIOCore
import Observability
import Transport
import Tunnel

/// From the origin to the stream. All calls come from the connection, on the loop.
extension OriginExchange {
    func originInterim(_ head: ResponseHead) { write(head) }

    func originHead(_ head: ResponseHead) {
        status = head.status
        deadline = .distantFuture
        if head.status == 101 {
            guard let request = self.head, isUpgrade(head, to: request) else { return abort(.originProtocol) }
            pool?.metrics.count(status: 101)
            write(head)
            upgrade()
            return
        }
        pool?.metrics.count(status: head.status)
        write(head)
    }

    /// RFC 9110 §15.2.2: the origin names a protocol that was asked for.
    private func isUpgrade(_ head: ResponseHead, to request: RequestHead) -> Bool {
        guard let asked = request.upgrade, let chosen = head.fields.first("upgrade") else { return false }
        let offers = asked.split(separator: ",").map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
        return offers.contains(chosen.lowercased())
    }

    private func upgrade() {
        guard let connection else { return }
        phase = .upgraded
        decoder.upgraded()
        let rest = connection.becomeRaw()
        if rest.readableBytes > 0 { originRaw(rest) }
        if hasRequestEnded { connection.closeOutput() }
    }

    func originBody(_ bytes: ByteBuffer) { writeData(bytes) }

    func originRaw(_ bytes: ByteBuffer) { writeData(bytes) }

    private func writeData(_ bytes: ByteBuffer) {
        let count = bytes.readableBytes
        owner.shared.metrics.responseBytes.increment(by: count)
        MessageEncoder.writeDataHeader(length: count, into: &out)
        if count <= Self.copyLimit {
            out.writeImmutableBuffer(bytes)
        } else {
            flushResponse()
            stream.write(bytes)
        }
    }

    private func write(_ head: ResponseHead) {
        do throws(HopError) {
            try MessageEncoder.writeResponseHead(head, into: &out)
        } catch {
            abort(.originProtocol)
        }
    }

    func originEnd(_ trailers: FieldSection?) {
        if let trailers {
            do throws(HopError) {
                try MessageEncoder.writeTrailers(trailers, into: &out)
            } catch {
                return abort(.originProtocol)
            }
        }
        hasResponseEnded = true
        flushResponse()
        stream.finish()
        // Complete before the body was: this ends the upload only.
        if !isRequestSent { stream.stopSending(.noError) }
        end(nil)
    }

    /// The origin half-closed after a 101.
    func originRawEnded() {
        guard !hasResponseEnded else { return }
        hasResponseEnded = true
        flushResponse()
        stream.finish()
        if hasRequestEnded { end(nil) }
    }

    /// Everything that the socket had was read. Answers whether to read on.
    func originReadComplete() -> Bool {
        flushResponse()
        return !isDone && stream.isWritable
    }

    func flushResponse() {
        guard out.readableBytes > 0 else { return }
        let frames = out
        out = ByteBuffer()
        stream.write(frames)
    }

    func originFailed(_ error: OriginError) {
        guard !isDone, let connection else { return }
        let isStale = !connection.isFresh && !connection.hasAnswerStarted && status == 0
        self.connection = nil
        // A pooled connection that the origin had closed: the request may run once more, on a new one.
        if isStale, error.code == .truncated, !isRetried, !hasSentBody, head?.isIdempotent ?? false {
            owner.shared.metrics.stalePooled.increment()
            isRetried = true
            isRequestSent = false
            connect()
            return
        }
        abort(error.code == .truncated ? .originAborted : .originProtocol)
    }
}
