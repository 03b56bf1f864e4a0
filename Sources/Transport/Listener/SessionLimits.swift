import Synchronization

/// A limit on the number of sessions, in all and per address (an IPv4 address or an IPv6 /64). A listener has two: one
/// for half-open sessions, whose peers have not authenticated themselves, and one for authenticated sessions. Shared by
/// all loops of a listener and thread-safe; used once per handshake, never per packet.
package final class SessionLimits: Sendable {
    package enum Admission: Equatable {
        case admitted
        case totalLimitReached
        case addressLimitReached
    }

    /// The default limit of half-open sessions. A server's side of a handshake takes some 80 KB, and not more than 120 KB
    /// under attack, so together they stay below 64 MiB.
    package static let halfOpenInAll = 500
    package static let halfOpenPerAddress = 16
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

    /// Returns whether one more session would be admitted now. Another loop may be faster: ``acquire(_:)`` decides.
    package func wouldAdmit(_ address: UDPAddress) -> Admission {
        state.withLock { admission($0, address.limitKey) }
    }

    /// Counts one more session if there is room.
    package func acquire(_ address: UDPAddress) -> Admission {
        state.withLock { state in
            let admission = self.admission(state, address.limitKey)
            if admission == .admitted {
                state.total &+= 1
                state.byAddress[address.limitKey, default: 0] &+= 1
            }
            return admission
        }
    }

    /// Releases the place of an admitted session. Called when it leaves the half-open state or closes.
    package func release(_ address: UDPAddress) {
        state.withLock { state in
            let key = address.limitKey
            guard let count = state.byAddress[key] else { preconditionFailure("released more often than acquired") }
            state.byAddress[key] = count > 1 ? count - 1 : nil
            state.total &-= 1
        }
    }

    /// The number of sessions that are counted now.
    package var current: Int { state.withLock { $0.total } }

    private func admission(_ state: State, _ key: UInt64) -> Admission {
        if state.total >= total { return .totalLimitReached }
        if (state.byAddress[key] ?? 0) >= perAddress { return .addressLimitReached }
        return .admitted
    }
}
