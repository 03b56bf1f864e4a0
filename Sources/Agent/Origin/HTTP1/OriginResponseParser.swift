package import HopProtocol
package import NIOCore

/// Reads HTTP/1.1 responses of an origin (RFC 9112), strictly: what two readers could read differently is an error.
/// Sans-IO; bodies pass as slices of what was fed.
///
/// Call ``begin(method:)`` for each request, feed what arrives, then ``next()`` until nil. At the end of the
/// connection's input call ``finish()``. After an error the connection is of no further use.
package struct OriginResponseParser {
    package enum Event: Sendable {
        /// A 1xx head but 101.
        case interim(ResponseHead)
        case head(ResponseHead)
        /// Never empty.
        case body(ByteBuffer)
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
        /// The head was passed on, the end is due.
        case ending
        case upgraded
    }

    /// Status line and fields.
    static let maximumHead = 80 * 1024
    static let maximumTrailers = HopLimits.trailers
    static let maximumTrailerFields = 32
    /// Bytes of chunk extensions a body may bring; they are dropped.
    static let maximumExtensions = 4 * 1024

    private var state = State.idle
    private var input = ByteBuffer()
    /// Bytes of `input` that hold no end of the section that is being looked for.
    private var scanned = 0
    private var extensions = 0
    private var method = ""
    /// The connection may take another request once the end was read.
    package private(set) var isKeptAlive = false

    package init() {}

    /// Nothing is expected and nothing has arrived.
    package var isIdle: Bool {
        if case .idle = state { input.readableBytes == 0 } else { false }
    }

    /// A request of this method was sent.
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
            input.writeImmutableBuffer(bytes)
        }
    }

    /// After a 101: what arrived behind its head.
    package mutating func takeRest() -> ByteBuffer {
        defer { input = ByteBuffer() }
        return input
    }

    package mutating func next() throws(OriginError) -> Event? {
        while true {
            switch state {
            case .idle:
                guard input.readableBytes == 0 else { throw OriginError(.violation, "bytes that nobody asked for") }
                input = ByteBuffer()
                return nil
            case .upgraded: return nil
            case .ending: return end(trailers: nil)
            case .head:
                guard let section = try takeSection(limit: Self.maximumHead) else { return nil }
                return try readHead(section)
            case .length(let missing):
                guard let bytes = takeBody(missing) else { return nil }
                let rest = missing - bytes.readableBytes
                state = rest == 0 ? .ending : .length(missing: rest)
                return .body(bytes)
            case .untilClose:
                guard let bytes = takeBody(.max) else { return nil }
                return .body(bytes)
            case .chunkSize:
                guard let size = try readChunkSize() else { return nil }
                state = size == 0 ? .trailers : .chunk(missing: size)
            case .chunk(let missing):
                guard let bytes = takeBody(missing) else { return nil }
                let rest = missing - bytes.readableBytes
                state = rest == 0 ? .chunkEnd : .chunk(missing: rest)
                return .body(bytes)
            case .chunkEnd:
                guard let end = input.readInteger(as: UInt16.self) else { return nil }
                guard end == 0x0D0A else { throw OriginError(.violation, "a chunk is longer than its size") }
                state = .chunkSize
            case .trailers:
                guard let section = try takeTrailers() else { return nil }
                return end(trailers: section.isEmpty ? nil : section)
            }
        }
    }

    /// The origin's input ended. Call after ``next()`` returned nil; the end of a body that only this delimits is
    /// returned, everything unfinished throws `truncated`.
    package mutating func finish() throws(OriginError) -> Event? {
        isKeptAlive = false
        switch state {
        case .idle, .upgraded: return nil
        case .untilClose, .ending: return end(trailers: nil)
        case .head where input.readableBytes == 0:
            throw OriginError(.truncated, "the origin closed before it answered")
        default: throw OriginError(.truncated, "the origin closed inside its answer")
        }
    }

    /// Whether any byte of the answer to the request in progress has arrived.
    package var hasAnswerStarted: Bool {
        if case .head = state { input.readableBytes > 0 || sawInterim } else { true }
    }
    private var sawInterim = false

    private mutating func end(trailers: FieldSection?) -> Event {
        state = .idle
        sawInterim = false
        return .end(trailers: trailers)
    }

    private mutating func takeBody(_ limit: Int) -> ByteBuffer? {
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

    /// Everything up to and with the empty line; nil: it has not arrived.
    private mutating func takeSection(limit: Int) throws(OriginError) -> ByteBuffer? {
        let found = input.withUnsafeReadableBytes { bytes -> Int? in
            var index = max(3, scanned)
            while index < bytes.count {
                // Looking at every fourth byte would do; heads are short and this is simple.
                if bytes[index] == 0x0A, bytes[index - 1] == 0x0D, bytes[index - 2] == 0x0A, bytes[index - 3] == 0x0D {
                    return index + 1
                }
                index += 1
            }
            return nil
        }
        guard let found else {
            scanned = input.readableBytes
            guard input.readableBytes <= limit else { throw OriginError(.violation, "a head above \(limit) bytes") }
            return nil
        }
        scanned = 0
        guard found <= limit else { throw OriginError(.violation, "a head above \(limit) bytes") }
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
            sawInterim = true
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

    /// `1*16HEXDIG [ ";" extension ] CRLF` (RFC 9112 §7.1).
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
            while index < line - 1, let digit = Self.hexDigit(bytes[index]) {
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

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte &- UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte &- UInt8(ascii: "a") &+ 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte &- UInt8(ascii: "A") &+ 10
        default: nil
        }
    }

    private mutating func takeTrailers() throws(OriginError) -> FieldSection? {
        guard input.readableBytes >= 2 else { return nil }
        if input.getInteger(at: input.readerIndex, as: UInt16.self) == 0x0D0A {
            input.moveReaderIndex(forwardBy: 2)
            scanned = 0
            return FieldSection()
        }
        guard let section = try takeSection(limit: Self.maximumTrailers) else { return nil }
        var fields = FieldSection()
        var problem: OriginError?
        section.withUnsafeReadableBytes { bytes in
            var lines = FieldLines(bytes)
            do throws(OriginError) {
                while let (name, value) = try lines.next() {
                    guard !HopByHop.isForbiddenTrailer(name) else {
                        throw OriginError(.violation, "a field that no trailer may bring")
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
