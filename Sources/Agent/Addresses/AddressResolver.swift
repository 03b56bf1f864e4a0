import Glibc
package import NIOCore
package import NIOPosix
package import Settings

/// Resolves names to addresses with the system's resolver, on a thread that may block.
package enum AddressResolver {
    package typealias Resolve = @Sendable (HostPort, any EventLoop) -> EventLoopFuture<[SocketAddress]>

    struct ResolutionError: Error, CustomStringConvertible {
        var host: String
        var reason: String

        var description: String { "\(host) cannot be resolved: \(reason)" }
    }

    static let timeout = TimeAmount.seconds(10)

    /// The addresses of an IP address or of `localhost` (RFC 6761 §6.3), or `nil` if `target` has to be looked up.
    static func literal(_ target: HostPort) -> [SocketAddress]? {
        if target.host == "localhost" {
            return ["127.0.0.1", "::1"].compactMap { try? SocketAddress(ipAddress: $0, port: target.port) }
        }
        return (try? SocketAddress(ipAddress: target.host, port: target.port)).map { [$0] }
    }

    /// Resolves `target`, and fails with an error that names the host after ``timeout`` at the latest.
    @Sendable
    package static func resolve(_ target: HostPort, on loop: any EventLoop) -> EventLoopFuture<[SocketAddress]> {
        if let literal = literal(target) { return loop.makeSucceededFuture(literal) }
        return lookup(of: target, on: loop, in: timeout, pool: .singleton, by: resolveBlocking)
    }

    /// Calls `resolve` on a thread of `pool`, and fails after `timeout` at the latest.
    ///
    /// A lookup that has waited for a thread that long is not made: while the resolver does not answer, lookups are
    /// requested faster than threads become free, and all later ones would wait for those whose callers have given up.
    package static func lookup(
        of target: HostPort,
        on loop: any EventLoop,
        in timeout: TimeAmount,
        pool: NIOThreadPool,
        by resolve: @escaping @Sendable (HostPort) throws -> [SocketAddress]
    ) -> EventLoopFuture<[SocketAddress]> {
        // The resolver has time limits of its own, which may be longer.
        let error = ResolutionError(host: target.host, reason: "no answer in \(timeout.nanoseconds / 1_000_000) ms")
        let deadline = NIODeadline.now() + timeout
        let promise = loop.makePromise(of: [SocketAddress].self)
        let limit = loop.scheduleTask(deadline: deadline) { promise.fail(error) }
        let work = pool.runIfActive(eventLoop: loop) {
            guard NIODeadline.now() < deadline else { throw error }
            return try resolve(target)
        }
        work.whenComplete { result in
            limit.cancel()
            promise.completeWith(result)
        }
        return promise.futureResult
    }

    /// Resolves `target` on this thread. The addresses are in the order of RFC 6724, as getaddrinfo returns them.
    static func resolveBlocking(_ target: HostPort) throws -> [SocketAddress] {
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
