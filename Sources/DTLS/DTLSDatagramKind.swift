/// The 32 random bytes of a ClientHello. They distinguish a retransmitted hello from a new one.
package struct DTLSClientRandom: Hashable, Sendable {
    private var words: (UInt64, UInt64, UInt64, UInt64)

    package static let count = 32

    /// Creates the value, or returns `nil` unless there are exactly 32 bytes.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Self.count else { return nil }
        words = (
            bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
        )
    }

    package static func == (left: Self, right: Self) -> Bool {
        left.words == right.words
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }
}

/// The kind of a datagram's first record, read from its header alone (RFC 6347 §4.1). It is unauthenticated, and
/// sufficient to decide where the datagram goes.
package enum DTLSDatagramKind: Equatable, Sendable {
    /// Epoch 0, a handshake record that begins with (the first fragment of) a ClientHello.
    case clientHello(random: DTLSClientRandom)
    /// Epoch 0, any other handshake record.
    case handshake
    /// Epoch 0, ChangeCipherSpec, an alert or application data, which is never valid in epoch 0.
    case epochZeroOther
    /// Epoch 1 or higher: encrypted.
    case protected(ContentType)
    /// No DTLS 1.x record, or a record that is longer than its datagram.
    case invalid

    package enum ContentType: UInt8, Sendable {
        case changeCipherSpec = 20
        case alert = 21
        case handshake = 22
        case applicationData = 23
    }

    /// The most bytes of a record: 2^14 and the bytes that encryption may add (RFC 6347 §4.1).
    static let maxRecordBytes = 16_384 + 2_048
    static let recordHeaderBytes = 13
    private static let handshakeHeaderBytes = 12

    /// Classifies a datagram by the header of its first record.
    package static func classify(_ datagram: UnsafeRawBufferPointer) -> DTLSDatagramKind {
        guard datagram.count >= recordHeaderBytes,
            let type = ContentType(rawValue: datagram[0]),
            datagram[1] == 0xfe, datagram[2] == 0xff || datagram[2] == 0xfd
        else { return .invalid }
        let count = Int(datagram[11]) << 8 | Int(datagram[12])
        guard count <= maxRecordBytes, recordHeaderBytes + count <= datagram.count else { return .invalid }
        guard datagram[3] == 0, datagram[4] == 0 else { return .protected(type) }
        guard type == .handshake else { return .epochZeroOther }
        return helloRandom(UnsafeRawBufferPointer(rebasing: datagram[recordHeaderBytes..<recordHeaderBytes + count]))
            .map { .clientHello(random: $0) } ?? .handshake
    }

    /// Returns the random of the ClientHello at the beginning of a handshake record's body, or `nil` if there is none.
    private static func helloRandom(_ body: UnsafeRawBufferPointer) -> DTLSClientRandom? {
        let randomAt = handshakeHeaderBytes + 2
        // Message type 1, fragment offset 0, and at least version and random within the fragment.
        guard body.count >= randomAt + DTLSClientRandom.count, body[0] == 1,
            body[6] == 0, body[7] == 0, body[8] == 0
        else { return nil }
        let fragment = Int(body[9]) << 16 | Int(body[10]) << 8 | Int(body[11])
        guard fragment >= 2 + DTLSClientRandom.count, handshakeHeaderBytes + fragment <= body.count else { return nil }
        return DTLSClientRandom(UnsafeRawBufferPointer(rebasing: body[randomAt..<randomAt + DTLSClientRandom.count]))
    }
}
