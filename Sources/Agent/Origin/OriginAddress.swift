import NIOCore
import Settings
import Synchronization

/// Where an origin is. Addresses and `localhost` need no resolver; a name is resolved off the loop and remembered for a
/// while.
///
/// Belongs to one loop.
final class OriginAddress {
    static let memory = TimeAmount.seconds(30)

    private let target: HostPort
    private var known: (addresses: [SocketAddress], until: NIODeadline)?
    /// A look-up that is under way, for all who ask meanwhile.
    private var pending: EventLoopFuture<[SocketAddress]>?

    init(_ target: HostPort) {
        self.target = target
        if let literal = AddressResolver.literal(target) { known = (literal, .distantFuture) }
    }

    func addresses(on loop: any EventLoop) -> EventLoopFuture<[SocketAddress]> {
        if let known, known.until > .now() { return loop.makeSucceededFuture(known.addresses) }
        if let pending { return pending }
        let answer = AddressResolver.resolve(target, on: loop)
        pending = answer
        answer.assumeIsolated().whenComplete { result in
            self.pending = nil
            if case .success(let addresses) = result { self.known = (addresses, .now() + Self.memory) }
        }
        return answer
    }

    /// None of the addresses answered: ask again next time.
    func forget() {
        if let known, known.until != .distantFuture { self.known = nil }
    }
}
