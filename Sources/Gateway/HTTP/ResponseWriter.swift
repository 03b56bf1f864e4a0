package import HopProtocol
package import NIOCore
package import NIOHTTP1

/// The way in which the end of a response's body is marked for an HTTP/1 client (RFC 9112 §6).
package enum ResponseFraming: Equatable, Sendable {
    /// A response without a body: to HEAD, 204, 304.
    case bodyless
    case length(Int)
    case chunked
    /// The body ends with the connection: HTTP/1.0 without a length.
    case untilClose
    /// Raw bytes behind a 101.
    case raw
}

/// A serialiser of heads and chunk framing for an HTTP/1 client. Framing and hop-by-hop fields are the gateway's own;
/// all other fields keep their bytes and their order.
package enum ResponseWriter {
    /// The parts of a head beside the origin's fields.
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

    /// Appends the final head.
    ///
    /// - Parameter options: `keepsAlive` is cleared if the framing needs the connection to end.
    /// - Returns: The framing of the body.
    /// - Throws: If the fields can be read in more than one way; nothing was written then.
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
            framing = .bodyless
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

    /// Appends a 1xx head other than 101.
    package static func writeInterim(_ status: Int, _ fields: FieldSection, into buffer: inout ByteBuffer) {
        writeStatusLine(status, into: &buffer)
        _ = writeFields(fields, keepsLength: false, into: &buffer)
        buffer.writeStaticString("\r\n")
    }

    /// Appends the size line of a chunk.
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

    /// Appends the last chunk with the trailers that are allowed there (RFC 9110 §6.5.1).
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

    /// Returns whether a Date field was written.
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
