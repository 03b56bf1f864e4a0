/// Why the transport could not do what its owner asked: a socket could not be made, bound or connected.
///
/// What happens to a session later is never thrown; it arrives as ``SessionCloseReason``.
package struct TransportError: Error, Equatable, CustomStringConvertible {
    package enum Code: Sendable {
        /// A system call on a socket failed; `errno` says why.
        case systemCall
        /// The address cannot be used for UDP.
        case unsupportedAddress
        /// The host's name has no address.
        case unknownHost
    }

    package var code: Code
    /// The system call or the step, for the log line.
    package var operation: String
    /// `errno` of the failed call, 0 if there was none.
    package var errno: CInt

    package init(code: Code, operation: String, errno: CInt = 0) {
        self.code = code
        self.operation = operation
        self.errno = errno
    }

    package var description: String {
        errno == 0 ? "\(code): \(operation)" : "\(operation): errno \(errno)"
    }
}
