import Glibc

/// The error of the transport: a socket could not be created, bound or connected.
///
/// Later failures of a session are never thrown; they arrive as ``SessionCloseReason``.
package struct TransportError: Error, Equatable, CustomStringConvertible {
    package enum Code: Sendable {
        /// A system call on a socket failed; `errno` is its error.
        case systemCall
        /// The address cannot be used for UDP.
        case unsupportedAddress
        /// The host name has no address.
        case unknownHost
    }

    package var code: Code
    /// The system call that failed or, without `errno`, the problem; for the log.
    package var operation: String
    /// The `errno` of the failed call, or 0 if there was none.
    package var errno: CInt

    package init(code: Code, operation: String, errno: CInt = 0) {
        self.code = code
        self.operation = operation
        self.errno = errno
    }

    package var description: String {
        errno == 0 ? operation : "\(operation): \(String(cString: strerror(errno)))"
    }
}
