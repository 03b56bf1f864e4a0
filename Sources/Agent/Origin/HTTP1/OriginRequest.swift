package import HopProtocol
package import NIOCore

/// Serialises the HTTP/1.1 request for an origin from the head that arrived through the tunnel.
package enum OriginRequest {
    /// The framing of the body (RFC 9112 §6).
    package enum Framing: Equatable, Sendable {
        case none
        case length(Int)
        case chunked
    }

    /// Writes the request line and the fields. `Host` is the head's authority; the hop-by-hop fields are the agent's
    /// own.
    package static func writeHead(_ head: RequestHead, framing: Framing, into buffer: inout ByteBuffer) {
        buffer.reserveCapacity(minimumWritableBytes: 256 + head.path.utf8.count + 2 * head.fields.bytes.readableBytes)
        buffer.writeString(head.method)
        buffer.writeInteger(UInt8(ascii: " "))
        buffer.writeString(head.path)
        buffer.writeStaticString(" HTTP/1.1\r\nHost: ")
        buffer.writeString(head.authority)
        buffer.writeStaticString("\r\n")
        var upgrade = false
        var wantsTrailers = false
        let hasTrace = !head.traceparent.isEmpty
        head.fields.forEachBytes { name, value in
            switch name.count {
            case 2 where ASCII.equalIgnoringCase(name, "te"):
                wantsTrailers = wantsTrailers || ASCII.equalIgnoringCase(value, "trailers")
                return
            case 4 where ASCII.equalIgnoringCase(name, "host"): return
            case 7 where ASCII.equalIgnoringCase(name, "upgrade"):
                upgrade = true
            case 11 where hasTrace && ASCII.equalIgnoringCase(name, "traceparent"): return
            case 14 where ASCII.equalIgnoringCase(name, "content-length"): return
            default:
                if HopByHop.contains(name) { return }
            }
            writeField(name, value, into: &buffer)
        }
        if hasTrace {
            buffer.writeStaticString("traceparent: ")
            buffer.writeString(head.traceparent)
            buffer.writeStaticString("\r\n")
        }
        if wantsTrailers { buffer.writeStaticString("TE: trailers\r\n") }
        switch (upgrade, wantsTrailers) {
        case (true, true): buffer.writeStaticString("Connection: upgrade, TE\r\n")
        case (true, false): buffer.writeStaticString("Connection: upgrade\r\n")
        case (false, true): buffer.writeStaticString("Connection: TE\r\n")
        case (false, false): break
        }
        switch framing {
        case .none: break
        case .length(let count):
            buffer.writeStaticString("Content-Length: ")
            buffer.writeString(String(count))
            buffer.writeStaticString("\r\n")
        case .chunked: buffer.writeStaticString("Transfer-Encoding: chunked\r\n")
        }
        buffer.writeStaticString("\r\n")
    }

    /// Writes the bytes that precede a chunk: the end of the previous chunk, unless it `isFirst`, and the size line.
    package static func writeChunkHeader(_ count: Int, isFirst: Bool, into buffer: inout ByteBuffer) {
        precondition(count > 0, "an empty chunk ends the body")
        if !isFirst { buffer.writeStaticString("\r\n") }
        buffer.writeString(String(count, radix: 16))
        buffer.writeStaticString("\r\n")
    }

    /// Writes the last chunk and the trailers. Forbidden trailer fields are dropped.
    package static func writeLastChunk(isFirst: Bool, trailers: FieldSection?, into buffer: inout ByteBuffer) {
        buffer.writeStaticString(isFirst ? "0\r\n" : "\r\n0\r\n")
        trailers?.forEachBytes { name, value in
            if !HopByHop.isForbiddenTrailer(name) { writeField(name, value, into: &buffer) }
        }
        buffer.writeStaticString("\r\n")
    }

    private static func writeField(
        _ name: UnsafeRawBufferPointer,
        _ value: UnsafeRawBufferPointer,
        into buffer: inout ByteBuffer
    ) {
        buffer.writeBytes(name)
        buffer.writeStaticString(": ")
        buffer.writeBytes(value)
        buffer.writeStaticString("\r\n")
    }
}
