import Synchronization

/// A limit on the number of authenticated sessions, in all and per address (an IPv4 address or an IPv6 /64). Shared by
/// all loops of a listener and thread-safe; used once per session, never per packet.
package final class SessionLimits: Sendable {
    package enum Admission: Equatable {
        case admitted
        case totalLimitReached
        case addressLimitReached
    }

    package static let authenticatedInAll = 65_536
    /// The default limit of authenticated sessions per address. A whole site may be behind one address.
    package static let authenticatedPerAddress = 4_096

    private struct State {
        var total = 0
        var byAddress: [UInt64: Int] = [:]
    }

    private let total: Int
    private let perAddress: Int
    private let state = Mutex(State())

    package init(total: Int, perAddress: Int) {
        self.total = total
        self.perAddress = perAddress
    }

    /// Counts one more session if there is room.
    package func acquire(_ address: UDPAddress) -> Admission {
        state.withLock { state in
            let count = state.byAddress[address.limitKey] ?? 0
            if state.total >= total { return .totalLimitReached }
            if count >= perAddress { return .addressLimitReached }
            state.total &+= 1
            state.byAddress[address.limitKey] = count &+ 1
            return .admitted
        }
    }

    /// Releases the place of an admitted session.
    package func release(_ address: UDPAddress) {
        state.withLock { state in
            let key = address.limitKey
            guard let count = state.byAddress[key] else { preconditionFailure("released more often than acquired") }
            state.byAddress[key] = count > 1 ? count - 1 : nil
            state.total &-= 1
        }
    }
}
