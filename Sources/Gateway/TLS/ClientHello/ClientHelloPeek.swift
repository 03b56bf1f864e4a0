/// Looks into the first bytes of a TLS connection for the one thing that the TLS library cannot be asked in time:
/// whether the client offers `acme-tls/1` and nothing else, as a CA does that validates a name (RFC 8737 §3), and for
/// which name.
///
/// Sans-IO. The caller keeps every byte that arrived and calls ``look(at:)`` with all of them whenever more have come,
/// until the verdict is another one than ``Verdict/needsMore``; the bytes themselves go to the TLS library untouched
/// whatever is said here. Each byte is looked at once, also when they come one at a time, and the hello itself once
/// more when it is complete.
package struct ClientHelloPeek: Sendable {
    /// Bytes, record headers included, within which the hello has to be complete. Those of browsers with post-quantum
    /// key shares have about 2,000.
    package static let limit = 16 * 1024

    package enum Verdict: Equatable, Sendable {
        /// The hello is not complete. Call again with more.
        case needsMore
        /// No validation: the TLS library alone decides what becomes of these bytes.
        case passOn(Reason)
        /// ALPN is exactly `acme-tls/1`.
        ///
        /// - serverName: in lower case, without a final dot; nil when there is none, or it has bytes that no host name
        ///   has.
        case challenge(serverName: String?)
    }

    package enum Reason: Equatable, Sendable {
        /// A ClientHello for something else.
        case ordinary
        /// No ClientHello that we can read: another protocol, a hello of SSL 2, contradictory lengths, an extension
        /// that is there twice.
        case unreadable
        /// Not complete within ``ClientHelloPeek/limit``.
        case tooLong
    }

    /// The next byte to look at.
    private var position = 0
    /// Bytes of the present record from ``position`` on; 0 between records.
    private var recordLeft = 0
    private var records = 0
    /// Bytes of the handshake message before ``position``.
    private var messageBytes = 0
    /// Of the message's header, as many bytes as were there: type and length.
    private var header: UInt32 = 0
    private var verdict = Verdict.needsMore

    package init() {}

    /// - Parameter bytes: everything from the connection's first byte on.
    package mutating func look(at bytes: UnsafeRawBufferPointer) -> Verdict {
        guard verdict == .needsMore else { return verdict }
        let seen = UnsafeRawBufferPointer(rebasing: bytes.prefix(Self.limit))
        verdict = advance(seen)
        if verdict == .needsMore, seen.count == Self.limit { verdict = .passOn(.tooLong) }
        return verdict
    }

    private mutating func advance(_ bytes: UnsafeRawBufferPointer) -> Verdict {
        while position < bytes.count {
            if recordLeft == 0 {
                switch Self.recordLength(UnsafeRawBufferPointer(rebasing: bytes[position...])) {
                case .unreadable: return .passOn(.unreadable)
                case .incomplete: return .needsMore
                case .handshake(let length):
                    position += Record.headerLength
                    recordLeft = length
                    records += 1
                }
                continue
            }
            let end = position + min(recordLeft, bytes.count - position)
            var next = position
            while next < end, messageBytes + (next - position) < Message.headerLength {
                header = header << 8 | UInt32(bytes[next])
                if messageBytes + (next - position) == 0, header != Message.clientHello {
                    return .passOn(.unreadable)
                }
                next += 1
            }
            messageBytes += end - position
            recordLeft -= end - position
            position = end
            guard messageBytes >= Message.headerLength else { continue }
            let length = Message.headerLength + Int(header & 0xFF_FFFF)
            guard length <= Self.limit - Record.headerLength else { return .passOn(.tooLong) }
            if messageBytes >= length { return read(bytes, length: length) }
        }
        return .needsMore
    }

    // MARK: Records

    private enum Record {
        static let headerLength = 5
        static let handshake: UInt8 = 22
        static let majorVersion: UInt8 = 3
        static let maximum = 1 << 14
    }

    private enum Message {
        static let headerLength = 4
        static let clientHello: UInt32 = 1
    }

    private enum RecordStart {
        case incomplete
        case unreadable
        case handshake(Int)
    }

    /// What begins here (RFC 8446 §5.1). Nothing but handshake records can precede the end of the hello, and none of
    /// them is empty. A first byte that is wrong is seen at once: whoever speaks HTTP to this port may never send five.
    private static func recordLength(_ bytes: UnsafeRawBufferPointer) -> RecordStart {
        guard bytes[0] == Record.handshake else { return .unreadable }
        guard bytes.count >= 2 else { return .incomplete }
        guard bytes[1] == Record.majorVersion else { return .unreadable }
        guard bytes.count >= Record.headerLength else { return .incomplete }
        let length = Int(bytes[3]) << 8 | Int(bytes[4])
        return (1...Record.maximum).contains(length) ? .handshake(length) : .unreadable
    }

    /// The message's `length` bytes are there; what follows them is not looked at.
    private func read(_ bytes: UnsafeRawBufferPointer, length: Int) -> Verdict {
        guard records > 1 else {
            return Self.verdict(
                UnsafeRawBufferPointer(rebasing: bytes[Record.headerLength..<Record.headerLength + length])
            )
        }
        var message: [UInt8] = []
        message.reserveCapacity(length)
        var start = 0
        while message.count < length {
            guard case .handshake(let count) = Self.recordLength(UnsafeRawBufferPointer(rebasing: bytes[start...]))
            else { preconditionFailure("these records were read before") }
            start += Record.headerLength
            message += bytes[start..<start + min(count, length - message.count)]
            start += count
        }
        return message.withUnsafeBytes { Self.verdict($0) }
    }

    // MARK: The message

    private static func verdict(_ message: UnsafeRawBufferPointer) -> Verdict {
        guard let hello = ClientHello(message) else { return .passOn(.unreadable) }
        guard hello.offersOnly("acme-tls/1") else { return .passOn(.ordinary) }
        guard !hello.repeatsExtension else { return .passOn(.unreadable) }
        return .challenge(serverName: hello.serverName.flatMap(text))
    }

    /// Letters, digits and `-._` in lower case.
    private static func text(_ name: UnsafeRawBufferPointer) -> String? {
        var result: [UInt8] = []
        result.reserveCapacity(name.count)
        for byte in name {
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): result.append(byte | 0x20)
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
                UInt8(ascii: "."), UInt8(ascii: "_"):
                result.append(byte)
            default: return nil
            }
        }
        if result.last == UInt8(ascii: ".") { result.removeLast() }
        return result.isEmpty ? nil : String(decoding: result, as: UTF8.self)
    }
}
