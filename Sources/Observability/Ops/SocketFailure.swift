import Glibc
import NIOCore
import NIOPosix

/// The reason for which a socket cannot be used, in the words of the system. The descriptions of SwiftNIO's errors name
/// its functions instead.
package struct SocketFailure: Error, CustomStringConvertible {
    private let number: CInt?
    package let description: String

    /// - Parameter number: The `errno` of the call that failed.
    package init(errno number: CInt) {
        self.number = number
        description = String(cString: strerror(number))
    }

    /// - Parameter error: The error of a bind, of a connection attempt, or of a connection.
    package init(_ error: any Error) {
        switch error {
        case let error as IOError: self.init(errno: error.errnoCode)
        case let error as NIOConnectionError:
            self.init(error.connectionErrors.first?.error ?? error.dnsAError ?? error.dnsAAAAError ?? error)
        case let error as SocketAddressError.UnknownHost:
            self.init("\(error.host) cannot be resolved: \(error.errorDescription)")
        case ChannelError.connectTimeout(let time): self.init("no answer in \(time.nanoseconds / 1_000_000) ms")
        default: self.init("\(error)")
        }
    }

    private init(_ description: String) {
        number = nil
        self.description = description
    }

    /// Whether the machine has no address of the family, as without IPv6.
    package var isMissingFamily: Bool { number == EAFNOSUPPORT || number == EADDRNOTAVAIL }

    /// Returns the text for the operator of a listener that cannot be bound, with the remedy.
    ///
    /// - Parameter key: The setting with the address.
    package func text(listeningOn address: String, key: String) -> String {
        let reason =
            switch number {
            case EADDRINUSE:
                "another process uses this port; stop that process (`ss -lnptu` lists them), or give \(key) another port"
            case EACCES, EPERM:
                "this process may not use this port; give \(key) a port above 1023, or the process the capability "
                    + "CAP_NET_BIND_SERVICE"
            case EADDRNOTAVAIL:
                "this machine does not have this address; give \(key) one that it has, or 0.0.0.0 for all"
            case EAFNOSUPPORT: "this kernel does not support IPv6; give \(key) an IPv4 address"
            default: "\(description); give \(key) another address"
            }
        return "\(key): cannot listen on \(address): \(reason)"
    }
}
