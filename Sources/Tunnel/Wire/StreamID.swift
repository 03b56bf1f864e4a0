/// A bidirectional stream of a tunnel, numbered as in RFC 9000 §2.1. Zero is the control stream.
package struct StreamID: Hashable, Sendable, CustomStringConvertible {
    package var rawValue: UInt64

    @inlinable
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    @inlinable
    package static var control: StreamID { StreamID(rawValue: 0) }

    /// How many streams of the same initiator were opened before this one.
    var sequence: UInt64 { rawValue >> 2 }

    var initiator: TunnelRole { rawValue & 1 == 0 ? .client : .server }

    /// Unidirectional streams do not exist here.
    var isBidirectional: Bool { rawValue & 2 == 0 }

    package var description: String { "stream \(rawValue)" }
}

/// Which end of the DTLS session this is: the client is the DTLS client and opens streams 0, 4, 8 …,
/// the server opens 1, 5, 9 ….
package enum TunnelRole: Sendable, Equatable {
    case client
    case server

    var firstStream: UInt64 { self == .client ? 0 : 1 }
}
