import Glibc
package import NIOCore
import NIOPosix
package import Settings

/// Names to addresses, with the system's resolver, on a thread that may wait.
package enum AddressResolver {
    package typealias Resolve = @Sendable (HostPort, any EventLoop) -> EventLoopFuture<[SocketAddress]>

    struct ResolutionError: Error, CustomStringConvertible {
        var host: String
        var reason: String

        var description: String { "\(host) cannot be resolved: \(reason)" }
    }

    static let patience = TimeAmount.seconds(10)

    /// An address, or `localhost` (RFC 6761 §6.3): no look-up is needed.
    static func literal(_ target: HostPort) -> [SocketAddress]? {
        if target.host == "localhost" {
            return ["127.0.0.1", "::1"].compactMap { try? SocketAddress(ipAddress: $0, port: target.port) }
        }
        return (try? SocketAddress(ipAddress: target.host, port: target.port)).map { [$0] }
    }

    @Sendable
    package static func resolve(_ target: HostPort, on loop: any EventLoop) -> EventLoopFuture<[SocketAddress]> {
        if let literal = literal(target) { return loop.makeSucceededFuture(literal) }
        // The resolver has time limits of its own, which may be long; nobody here waits longer than this.
        let answer = loop.makePromise(of: [SocketAddress].self)
        let limit = loop.scheduleTask(in: patience) {
            answer.fail(
                ResolutionError(host: target.host, reason: "no answer in \(patience.nanoseconds / 1_000_000) ms")
            )
        }
        let work = NIOThreadPool.singleton.runIfActive(eventLoop: loop) { try look(up: target) }
        work.whenComplete { result in
            limit.cancel()
            answer.completeWith(result)
        }
        return answer.futureResult
    }

    /// In the order of RFC 6724, as getaddrinfo gives them. Blocks.
    static func look(up target: HostPort) throws -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(target.host, String(target.port), &hints, &list)
        guard status == 0 else {
            throw ResolutionError(host: target.host, reason: String(cString: gai_strerror(status)))
        }
        defer { freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var next = list
        while let info = next {
            next = info.pointee.ai_next
            guard let raw = info.pointee.ai_addr else { continue }
            let address: SocketAddress? =
                switch info.pointee.ai_family {
                case AF_INET:
                    raw.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                        SocketAddress($0.pointee, host: target.host)
                    }
                case AF_INET6:
                    raw.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                        SocketAddress($0.pointee, host: target.host)
                    }
                default: nil
                }
            if let address, !addresses.contains(address) { addresses.append(address) }
        }
        return addresses
    }
}
