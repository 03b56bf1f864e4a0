/// Inspects the first bytes of a TLS connection to find out whether the client offers `acme-tls/1` and no other
/// protocol, as a CA does that validates a name (RFC 8737 §3), and for which server name. The TLS library cannot be
/// asked for this before it has chosen a certificate.
///
/// Performs no I/O. The caller keeps all received bytes and calls ``inspect(_:)`` with all of them whenever more have
/// arrived, until the verdict is not ``Verdict/needsMore``. The bytes are then passed to the TLS library unchanged,
/// in any case. Each byte is inspected once, even if the bytes arrive one by one, and a complete hello is
/// parsed once more.
package struct ClientHelloPeek: Sendable {
    /// The number of bytes, record headers included, within which the hello has to be complete. Browsers with
    /// post-quantum key shares send about 2,000.
    package static let limit = 16 * 1024

    package enum Verdict: Equatable, Sendable {
        /// The hello is incomplete. Call again with more bytes.
        case needsMore
        /// The connection is not a validation and is left to the TLS library.
        case passOn(Reason)
        /// The only ALPN protocol is `acme-tls/1`.
        ///
        /// - serverName: The server name in lower case without a final dot, or `nil` if there is none or it contains
        ///   bytes that no host name contains.
        case challenge(serverName: String?)
    }

    package enum Reason: Equatable, Sendable {
        /// A ClientHello that is not a validation.
        case ordinary
        /// An invalid ClientHello: another protocol, an SSL 2 hello, contradictory lengths, or a repeated extension.
        case unreadable
        /// A hello that is not complete within ``ClientHelloPeek/limit``.
        case tooLong
    }

    /// The offset of the next byte to inspect.
    private var position = 0
    /// The number of bytes of the current record from ``position`` on; 0 between records.
    private var recordLeft = 0
    private var records = 0
    /// The number of bytes of the handshake message before ``position``.
    private var messageBytes = 0
    /// The bytes of the message's header (type and length) that have arrived, as a big-endian number.
    private var header: UInt32 = 0
    private var verdict = Verdict.needsMore

    package init() {}

    /// Inspects the bytes received so far.
    ///
    /// - Parameter bytes: All bytes of the connection, from the first one on.
    package mutating func inspect(_ bytes: UnsafeRawBufferPointer) -> Verdict {
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

    /// The length of the record that begins here (RFC 8446 §5.1). Only non-empty handshake records can precede the end
    /// of the hello. A wrong first byte is reported at once: a client that speaks HTTP to this port may never send five
    /// bytes.
    private static func recordLength(_ bytes: UnsafeRawBufferPointer) -> RecordStart {
        guard bytes[0] == Record.handshake else { return .unreadable }
        guard bytes.count >= 2 else { return .incomplete }
        guard bytes[1] == Record.majorVersion else { return .unreadable }
        guard bytes.count >= Record.headerLength else { return .incomplete }
        let length = Int(bytes[3]) << 8 | Int(bytes[4])
        return (1...Record.maximum).contains(length) ? .handshake(length) : .unreadable
    }

    /// Parses the hello, whose `length` bytes are complete. The bytes after it are not inspected.
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

    /// The name in lower case, or `nil` if it contains anything but letters, digits and `-._`.
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
