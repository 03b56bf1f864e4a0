import HopProtocol
import NIOCore
import NIOHTTP1
import Observability

/// The writing of responses.
extension HTTP1Connection: ExchangeClient {
    /// The size up to which a piece of a body is copied behind the waiting output, so that both leave in one TLS
    /// record.
    private static let copiedChunk = 4 * 1024
    /// The amount of collected output above which it is written to the channel at once.
    private static let outputMark = 16 * 1024
    /// The amount of written output above which it is flushed within the turn: the TLS layer would otherwise hold all
    /// of it twice.
    private static let flushMark = 256 * 1024

    func sendInterim(_ head: ResponseHead) {
        // RFC 9110 §15.2: never to an HTTP/1.0 client.
        guard version == .http1_1, phase == .exchanging else { return }
        ResponseWriter.writeInterim(head.status, head.fields, into: &output)
        flushSoon()
    }

    func sendHead(_ head: ResponseHead) throws(HopError) {
        // To reuse the connection, a request body that is still arriving would have to be read to its end.
        var options = ResponseWriter.Options(
            version: version,
            isHead: isHead,
            keepsAlive: keepsAlive && requestReceived && !proxy.lifecycle.isDraining,
            date: loopState.resources.dateValue(.now())
        )
        output.reserveCapacity(minimumWritableBytes: head.fields.bytes.readableBytes * 2 + 256)
        framing = try ResponseWriter.writeHead(head.status, head.fields, options: &options, into: &output)
        keepsAlive = options.keepsAlive
        if framing == .raw { upgrade() }
        flushSoon()
    }

    func sendBody(_ bytes: ByteBuffer) {
        let count = bytes.readableBytes
        guard count > 0 else { return }
        if framing == .raw { hasProgress = true }
        switch framing {
        case .bodyless: return
        case .length, .untilClose, .raw: append(bytes)
        case .chunked:
            ResponseWriter.writeChunkSize(count, into: &output)
            append(bytes)
            output.writeStaticString("\r\n")
        }
        flushSoon()
    }

    func sendTrailers(_ trailers: FieldSection) {
        self.trailers = trailers
    }

    func sendEnd() {
        if framing == .raw {
            closeUpgradedOutput()
            return
        }
        if framing == .chunked { ResponseWriter.writeLastChunk(trailers, into: &output) }
        responseSent = true
        exchange = nil
        if requestReceived {
            finishRequest()
            // Head, body and end mostly arrive in one turn: this is then the only flush.
            flushIfNeeded()
        } else {
            // RFC 9112 §9.6: an early response ends the connection; the rest of the body is read and dropped.
            keepsAlive = false
            closeAfterFlush()
        }
    }

    func sendError(_ error: ProxyError, requestID: String) {
        if error == .clientGone || error == .clientStalled {
            closeNow()
            return
        }
        keepsAlive = keepsAlive && !error.closesConnection && requestReceived && !proxy.lifecycle.isDraining
        let body = ErrorPage.body(error, requestID: requestID, format: accept)
        var extra = "X-Request-Id: \(requestID)\r\nCache-Control: no-store\r\n"
        if let seconds = error.retryAfter { extra += "Retry-After: \(seconds)\r\n" }
        if error.status == 405 { extra += "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" }
        sendComplete(error.status, contentType: accept.contentType, extra: extra, body: body)
    }

    /// Sends a complete response of the edge itself.
    func sendComplete(_ status: Int, contentType: String, extra: String, body: String) {
        output.writeString(
            """
            HTTP/1.1 \(status) \(StatusText.reason(status))\r
            Date: \(loopState.resources.dateValue(.now()))\r
            Content-Type: \(contentType)\r
            Content-Length: \(body.utf8.count)\r
            \(extra)Connection: \(keepsAlive ? "keep-alive" : "close")\r
            \r

            """
        )
        if !isHead { output.writeString(body) }
        framing = .bodyless
        sendEnd()
    }

    /// Responds to input that is not a valid request.
    func rejectInput(_ error: ProxyError) {
        phase = .exchanging
        requestReceived = false
        responseSent = false
        keepsAlive = false
        isHead = false
        let id = loopState.resources.makeRequestID().description
        record(error, requestID: id)
        sendError(error, requestID: id)
    }

    func abortResponse() {
        exchange = nil
        flushIfNeeded()
        // Without a length or chunks only a reset tells the client that something is missing.
        closeWithoutNotice(reset: framing == .untilClose || framing == .raw)
    }

    // MARK: Output

    private func append(_ bytes: ByteBuffer) {
        if bytes.readableBytes <= Self.copiedChunk, output.readableBytes < Self.outputMark {
            output.writeImmutableBuffer(bytes)
            return
        }
        writeOutput()
        unflushed += bytes.readableBytes
        context?.write(wrapOutboundOut(bytes), promise: nil)
        if unflushed >= Self.flushMark {
            unflushed = 0
            context?.flush()
        }
    }

    /// Writes the collected output to the channel.
    private func writeOutput() {
        guard output.readableBytes > 0 else { return }
        let bytes = output
        output = ByteBuffer()
        unflushed += bytes.readableBytes
        context?.write(wrapOutboundOut(bytes), promise: nil)
    }

    func flushSoon() {
        guard !isFlushPending else { return }
        isFlushPending = true
        loopState.flushLater(self)
    }

    func flushIfNeeded() {
        guard output.readableBytes > 0 || unflushed > 0 || isFlushPending else { return }
        isFlushPending = false
        guard let context, phase != .closed else { return }
        writeOutput()
        unflushed = 0
        context.flush()
        if context.channel.isWritable { exchange?.socketAcceptedBytes() }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            hasProgress = true
            exchange?.socketAcceptedBytes()
        }
        context.fireChannelWritabilityChanged()
    }
}
