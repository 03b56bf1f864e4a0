package import HopProtocol
package import NIOCore
package import NIOHTTP1

/// How the end of a response's body is shown to an HTTP/1 client (RFC 9112 §6).
package enum ResponseFraming: Equatable, Sendable {
    /// HEAD, 204, 304: the head is all.
    case noBody
    case length(Int)
    case chunked
    /// HTTP/1.0 without a length.
    case untilClose
    /// Behind a 101.
    case raw
}

/// Writes heads and chunk framing for an HTTP/1 client, anew from the parsed form: what frames the message and what is
/// hop-by-hop is ours, everything else passes with its bytes untouched and in its order.
package enum ResponseWriter {
    /// What the head says beside the origin's fields.
    package struct Options {
        package var version: HTTPVersion
        package var isHead: Bool
        package var keepsAlive: Bool
        package var date: String

        package init(version: HTTPVersion, isHead: Bool, keepsAlive: Bool, date: String) {
            self.version = version
            self.isHead = isHead
            self.keepsAlive = keepsAlive
            self.date = date
        }
    }

    /// Appends the final head and says how the body has to be framed. `options.keepsAlive` is cleared when the framing
    /// needs the connection to end. Throws when the section has no single reading; then nothing was written.
    package static func writeHead(
        _ status: Int,
        _ fields: FieldSection,
        options: inout Options,
        into buffer: inout ByteBuffer
    ) throws(HopError) -> ResponseFraming {
        let length = try fields.contentLength()
        let framing: ResponseFraming
        if status == 101 {
            framing = .raw
        } else if options.isHead || status == 204 || status == 304 {
            framing = .noBody
        } else if let length {
            framing = .length(length)
        } else if options.version == .http1_0 {
            framing = .untilClose
            options.keepsAlive = false
        } else {
            framing = .chunked
        }
        writeStatusLine(status, into: &buffer)
        let hasDate = writeFields(fields, keepsLength: status != 204 && status != 101, into: &buffer)
        if !hasDate {
            buffer.writeStaticString("Date: ")
            buffer.writeString(options.date)
            buffer.writeStaticString("\r\n")
        }
        switch framing {
        case .raw: buffer.writeStaticString("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        case .chunked where options.keepsAlive: buffer.writeStaticString("Transfer-Encoding: chunked\r\n\r\n")
        case .chunked: buffer.writeStaticString("Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        case _ where !options.keepsAlive: buffer.writeStaticString("Connection: close\r\n\r\n")
        case _ where options.version == .http1_0: buffer.writeStaticString("Connection: keep-alive\r\n\r\n")
        default: buffer.writeStaticString("\r\n")
        }
        return framing
    }

    /// A 1xx head but 101.
    package static func writeInterim(_ status: Int, _ fields: FieldSection, into buffer: inout ByteBuffer) {
        writeStatusLine(status, into: &buffer)
        _ = writeFields(fields, keepsLength: false, into: &buffer)
        buffer.writeStaticString("\r\n")
    }

    /// The size line of a chunk.
    package static func writeChunkSize(_ count: Int, into buffer: inout ByteBuffer) {
        var digits = (UInt64(0), UInt64(0))
        withUnsafeMutableBytes(of: &digits) { bytes in
            var rest = count
            var start = 16
            repeat {
                start -= 1
                let digit = UInt8(rest & 15)
                bytes[start] = digit < 10 ? UInt8(ascii: "0") &+ digit : UInt8(ascii: "a") &+ (digit &- 10)
                rest >>= 4
            } while rest > 0
            buffer.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[start...]))
        }
        buffer.writeStaticString("\r\n")
    }

    /// The last chunk with the trailers that may stand there (RFC 9110 §6.5.1).
    package static func writeLastChunk(_ trailers: FieldSection?, into buffer: inout ByteBuffer) {
        buffer.writeStaticString("0\r\n")
        trailers?.forEachBytes { name, value in
            switch FieldKind.classify(name).kind {
            case .other:
                buffer.writeBytes(name)
                buffer.writeStaticString(": ")
                buffer.writeBytes(value)
                buffer.writeStaticString("\r\n")
            default: break
            }
        }
        buffer.writeStaticString("\r\n")
    }

    private static func writeStatusLine(_ status: Int, into buffer: inout ByteBuffer) {
        if status == 200 {
            buffer.writeStaticString("HTTP/1.1 200 OK\r\n")
        } else {
            buffer.writeString("HTTP/1.1 \(status) \(StatusText.reason(status))\r\n")
        }
    }

    /// Returns whether a Date was among them.
    private static func writeFields(_ fields: FieldSection, keepsLength: Bool, into buffer: inout ByteBuffer) -> Bool {
        var hasDate = false
        fields.forEachBytes { name, value in
            switch FieldKind.classify(name).kind {
            case .connection, .hopByHop, .transferEncoding, .upgrade, .te: return
            case .contentLength where !keepsLength: return
            case .date: hasDate = true
            default: break
            }
            buffer.reserveCapacity(minimumWritableBytes: name.count + value.count + 4)
            buffer.writeBytes(name)
            buffer.writeStaticString(": ")
            buffer.writeBytes(value)
            buffer.writeStaticString("\r\n")
        }
        return hasDate
    }
}
