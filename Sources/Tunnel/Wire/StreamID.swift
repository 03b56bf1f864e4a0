/// The id of a bidirectional stream of a tunnel, numbered as in RFC 9000 §2.1. Stream 0 is the control stream.
package struct StreamID: Hashable, Sendable, CustomStringConvertible {
    /// The id on the wire.
    package var rawValue: UInt64

    @inlinable
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    @inlinable
    package static var control: StreamID { StreamID(rawValue: 0) }

    /// The number of streams that the same initiator opened before this one.
    var sequence: UInt64 { rawValue >> 2 }

    /// The end that opens the stream.
    var initiator: TunnelRole { rawValue & 1 == 0 ? .client : .server }

    /// Whether the stream is bidirectional. Unidirectional streams do not exist in a tunnel; their ids are a violation.
    var isBidirectional: Bool { rawValue & 2 == 0 }

    package var description: String { "stream \(rawValue)" }
}

/// The end of a tunnel. The client is the DTLS client and opens streams 0, 4, 8 …; the server opens streams 1, 5, 9 ….
package enum TunnelRole: Sendable, Equatable {
    case client
    case server

    /// The id of the first stream that this end opens.
    var firstStream: UInt64 { self == .client ? 0 : 1 }
}
