import Formats
package import HopProtocol
package import NIOCore

/// Parses the HTTP/1.1 responses of an origin (RFC 9112) strictly: input that two parsers could read differently is an
/// error. Without I/O; bodies are slices of the input.
///
/// Call ``begin(method:)`` for each request, ``feed(_:)`` for each input, then ``next()`` until it returns `nil`. At
/// the end of the connection's input call ``finish()``. After an error the connection is of no further use.
package struct OriginResponseParser {
    package enum Event: Sendable {
        /// A 1xx head other than 101.
        case interim(ResponseHead)
        /// A final head, or 101.
        case head(ResponseHead)
        /// Some bytes of the body, never empty.
        case body(ByteBuffer)
        /// The response is complete.
        case end(trailers: FieldSection?)
    }

    private enum State {
        case idle
        case head
        case length(missing: Int)
        case chunkSize
        case chunk(missing: Int)
        case chunkEnd
        case trailers
        case untilClose
        /// The response has no further bytes; its end has not been returned.
        case ending
        case upgraded
    }

    /// The size of the status line and the fields.
    static let maximumHead = 80 * 1024
    static let maximumTrailers = HopLimits.trailers
    static let maximumTrailerFields = 32
    /// The size of all chunk extensions of a body. They are dropped.
    static let maximumExtensions = 4 * 1024

    private var state = State.idle
    private var input = ByteBuffer()
    /// The number of bytes of `input` that do not contain the end of the current section.
    private var scanned = 0
    private var extensions = 0
    private var method = ""
    /// Whether the connection may serve another request after the end of the response.
    package private(set) var isKeptAlive = false

    package init() {}

    /// Whether no response is expected and no input is left.
    package var isIdle: Bool {
        if case .idle = state { input.readableBytes == 0 } else { false }
    }

    /// Starts a response, to a request with this method.
    package mutating func begin(method: String) {
        guard case .idle = state else { preconditionFailure("a response is still being read") }
        self.method = method
        isKeptAlive = false
        extensions = 0
        state = .head
    }

    package mutating func feed(_ bytes: ByteBuffer) {
        if input.readableBytes == 0 {
            input = bytes
        } else {
            // Reads that all end within the size of a chunk must not make the buffer keep the whole body.
            input.discardReadBytes()
            input.writeImmutableBuffer(bytes)
        }
    }

    /// Removes and returns the input that is not parsed: after a 101, the bytes behind its head.
    package mutating func removeInput() -> ByteBuffer {
        defer { input = ByteBuffer() }
        return input
    }

    package mutating func next() throws(OriginError) -> Event? {
        while true {
            switch state {
            case .idle:
                guard input.readableBytes == 0 else { throw OriginError(.violation, "bytes without a request") }
                input = ByteBuffer()
                return nil
            case .upgraded: return nil
            case .ending: return end(trailers: nil)
            case .head:
                guard let section = try readSection(limit: Self.maximumHead) else { return nil }
                return try readHead(section)
            case .length(let missing):
                guard let bytes = readBody(missing) else { return nil }
                let rest = missing - bytes.readableBytes
                state = rest == 0 ? .ending : .length(missing: rest)
                return .body(bytes)
            case .untilClose:
                guard let bytes = readBody(.max) else { return nil }
                return .body(bytes)
            case .chunkSize:
                guard let size = try readChunkSize() else { return nil }
                state = size == 0 ? .trailers : .chunk(missing: size)
            case .chunk(let missing):
                guard let bytes = readBody(missing) else { return nil }
                let rest = missing - bytes.readableBytes
                state = rest == 0 ? .chunkEnd : .chunk(missing: rest)
                return .body(bytes)
            case .chunkEnd:
                guard let end = input.readInteger(as: UInt16.self) else { return nil }
                guard end == 0x0D0A else { throw OriginError(.violation, "a chunk is longer than its size") }
                state = .chunkSize
            case .trailers:
                guard let section = try readTrailers() else { return nil }
                return end(trailers: section.isEmpty ? nil : section)
            }
        }
    }

    /// Handles the end of the origin's input. Call after ``next()`` has returned `nil`.
    ///
    /// - Returns: The end of a body that is delimited by the end of the connection, or `nil` if no response is
    ///   expected.
    /// - Throws: `truncated` if the response is incomplete.
    package mutating func finish() throws(OriginError) -> Event? {
        isKeptAlive = false
        switch state {
        case .idle, .upgraded: return nil
        case .untilClose, .ending: return end(trailers: nil)
        case .head where input.readableBytes == 0:
            throw OriginError(.truncated, "the origin closed the connection before its response")
        default: throw OriginError(.truncated, "the origin closed the connection within its response")
        }
    }

    /// Whether any byte of the current response has arrived.
    package var hasResponseStarted: Bool {
        if case .head = state { input.readableBytes > 0 || hasSeenInterim } else { true }
    }
    private var hasSeenInterim = false

    private mutating func end(trailers: FieldSection?) -> Event {
        state = .idle
        hasSeenInterim = false
        return .end(trailers: trailers)
    }

    private mutating func readBody(_ limit: Int) -> ByteBuffer? {
        let count = min(limit, input.readableBytes)
        guard count > 0 else {
            input = ByteBuffer()
            return nil
        }
        if count == input.readableBytes {
            defer { input = ByteBuffer() }
            return input
        }
        return input.readSlice(length: count)
    }

    /// Reads a section up to and including its empty line, or returns `nil` if the end has not arrived.
    private mutating func readSection(limit: Int) throws(OriginError) -> ByteBuffer? {
        let found = input.withUnsafeReadableBytes { bytes -> Int? in
            var index = max(3, scanned)
            while index < bytes.count {
                // Checking every fourth byte would suffice; heads are short and this is simple.
                if bytes[index] == 0x0A, bytes[index - 1] == 0x0D, bytes[index - 2] == 0x0A, bytes[index - 3] == 0x0D {
                    return index + 1
                }
                index += 1
            }
            return nil
        }
        guard let found else {
            scanned = input.readableBytes
            guard input.readableBytes <= limit else {
                throw OriginError(.violation, "a head of more than \(limit) bytes")
            }
            return nil
        }
        scanned = 0
        guard found <= limit else { throw OriginError(.violation, "a head of more than \(limit) bytes") }
        return input.readSlice(length: found)
    }

    private mutating func readHead(_ section: ByteBuffer) throws(OriginError) -> Event {
        var parsed = OriginHead()
        var problem: OriginError?
        section.withUnsafeReadableBytes { bytes in
            do throws(OriginError) { try parsed.parse(bytes) } catch { problem = error }
        }
        if let problem { throw problem }
        let head = ResponseHead(status: parsed.status, fields: parsed.fields)
        if head.isInterim {
            hasSeenInterim = true
            return .interim(head)
        }
        isKeptAlive = parsed.keepsAlive
        if head.status == 101 {
            state = .upgraded
            isKeptAlive = false
        } else if method == "HEAD" || head.status == 204 || head.status == 304 {
            state = .ending
        } else if parsed.isChunked {
            state = .chunkSize
        } else if let length = parsed.contentLength {
            state = length == 0 ? .ending : .length(missing: length)
        } else {
            state = .untilClose
            isKeptAlive = false
        }
        return .head(head)
    }

    /// Reads `1*16HEXDIG [ ";" extension ] CRLF` (RFC 9112 §7.1), or returns `nil` if its end has not arrived.
    private mutating func readChunkSize() throws(OriginError) -> Int? {
        let line = input.withUnsafeReadableBytes { bytes in bytes.firstIndex(of: 0x0A) }
        guard let line else {
            guard input.readableBytes <= Self.maximumExtensions + 18 else {
                throw OriginError(.violation, "a chunk's size line is too long")
            }
            return nil
        }
        var size: UInt64 = 0
        var digits = 0
        var isValid = true
        var extensionBytes = 0
        input.withUnsafeReadableBytes { bytes in
            guard line > 0, bytes[line - 1] == 0x0D else {
                isValid = false
                return
            }
            var index = 0
            while index < line - 1, let digit = Hex.digit(bytes[index]) {
                size = size << 4 | UInt64(digit)
                digits += 1
                index += 1
                if digits > 16 { break }
            }
            let rest = UnsafeRawBufferPointer(rebasing: bytes[index..<(line - 1)])
            extensionBytes = rest.count
            // BWS before the extension is allowed (RFC 9112 §7.1.1).
            let first = rest.first { $0 != 0x20 && $0 != 0x09 }
            isValid = ASCII.isFieldValue(rest) && (rest.isEmpty || first == UInt8(ascii: ";"))
        }
        extensions += extensionBytes
        guard isValid, (1...16).contains(digits), let size = Int(exactly: size) else {
            throw OriginError(.violation, "a bad chunk size")
        }
        guard extensions <= Self.maximumExtensions else {
            throw OriginError(.violation, "too many chunk extensions")
        }
        input.moveReaderIndex(forwardBy: line + 1)
        return size
    }

    private mutating func readTrailers() throws(OriginError) -> FieldSection? {
        guard input.readableBytes >= 2 else { return nil }
        if input.getInteger(at: input.readerIndex, as: UInt16.self) == 0x0D0A {
            input.moveReaderIndex(forwardBy: 2)
            scanned = 0
            return FieldSection()
        }
        guard let section = try readSection(limit: Self.maximumTrailers) else { return nil }
        var fields = FieldSection()
        var problem: OriginError?
        section.withUnsafeReadableBytes { bytes in
            var lines = FieldLines(bytes)
            do throws(OriginError) {
                while let (name, value) = try lines.next() {
                    guard !HopByHop.isForbiddenTrailer(name) else {
                        throw OriginError(.violation, "a field that is not allowed in trailers")
                    }
                    fields.append(name: name, value: value)
                    guard fields.count <= Self.maximumTrailerFields else {
                        throw OriginError(.violation, "too many trailers")
                    }
                }
            } catch { problem = error }
        }
        if let problem { throw problem }
        return fields
    }
}
