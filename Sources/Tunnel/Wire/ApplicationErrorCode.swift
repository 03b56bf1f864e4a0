/// An application protocol error code (RFC 9000 §20.2): the number that RESET_STREAM, STOP_SENDING and
/// CONNECTION_CLOSE carry.
///
/// One table holds every code of `hop/1`; `docs/protocol.md` explains them. The codes that the transport itself uses
/// are below. HopProtocol adds those that concern requests in an extension of this type, and its `HopCode` is the
/// closed set of all of them. Code that receives a number from the network keeps it unchanged in this type: a newer
/// peer may send one that is not in the table.
package struct ApplicationErrorCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The number on the wire, below 2^62.
    package var rawValue: UInt64

    /// Creates a code from its number on the wire.
    @inlinable
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The number in decimal.
    package var description: String { "\(rawValue)" }
}

extension ApplicationErrorCode {
    /// NO_ERROR: an orderly end.
    @inlinable
    package static var noError: Self { Self(rawValue: 0) }

    /// CANCELLED: the client went away, or the gateway gave up on its behalf.
    @inlinable
    package static var cancelled: Self { Self(rawValue: 1) }

    /// BUSY: a limit is reached.
    @inlinable
    package static var busy: Self { Self(rawValue: 4) }

    /// PROTOCOL_VIOLATION: the peer broke a rule of the protocol.
    @inlinable
    package static var protocolViolation: Self { Self(rawValue: 32) }

    /// FLOW_CONTROL: the peer sent more than its limits allow.
    @inlinable
    package static var flowControl: Self { Self(rawValue: 33) }

    /// FINAL_SIZE_ERROR: the peer changed the final size of a stream (RFC 9000 §4.5).
    @inlinable
    package static var finalSizeError: Self { Self(rawValue: 34) }

    /// INTERNAL: the sender failed.
    @inlinable
    package static var internalError: Self { Self(rawValue: 35) }

    /// AUTH_FAILED: the peer did not authenticate, or not in time.
    @inlinable
    package static var authFailed: Self { Self(rawValue: 36) }

    /// IDLE: the sender closes a tunnel that is not used.
    @inlinable
    package static var idle: Self { Self(rawValue: 38) }
}
