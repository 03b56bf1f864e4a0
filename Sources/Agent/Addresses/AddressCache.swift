import NIOCore
import Settings
import Synchronization

/// The addresses of one target. IP addresses and `localhost` need no resolver; another name is resolved off the event
/// loop and its addresses are cached for a while.
///
/// Confined to one event loop.
final class AddressCache {
    /// The time for which resolved addresses are used.
    static let lifetime = TimeAmount.seconds(30)

    private let target: HostPort
    private var cached: (addresses: [SocketAddress], expiresAt: NIODeadline)?
    /// The lookup in progress, shared by all callers that arrive meanwhile.
    private var pending: EventLoopFuture<[SocketAddress]>?

    init(_ target: HostPort) {
        self.target = target
        if let literal = AddressResolver.literal(target) { cached = (literal, .distantFuture) }
    }

    /// The addresses of the target, cached or resolved.
    func addresses(on loop: any EventLoop) -> EventLoopFuture<[SocketAddress]> {
        if let cached, cached.expiresAt > .now() { return loop.makeSucceededFuture(cached.addresses) }
        if let pending { return pending }
        let lookup = AddressResolver.resolve(target, on: loop)
        pending = lookup
        lookup.assumeIsolated().whenComplete { result in
            self.pending = nil
            if case .success(let addresses) = result { self.cached = (addresses, .now() + Self.lifetime) }
        }
        return lookup
    }

    /// Discards resolved addresses after none of them could be connected to, so that the next call resolves again.
    func invalidate() {
        if let cached, cached.expiresAt != .distantFuture { self.cached = nil }
    }
}
