import Synchronization

/// How many sessions there may be in all, and of one address (an IPv4 address or an IPv6 /64): one such limit for those
/// under way to proving themselves, one for those that have. One object for all loops of a listener; asked once a
/// handshake, never for a packet.
package final class SessionLimits: Sendable {
    package enum Admission: Equatable {
        case admitted
        case totalLimitReached
        case addressLimitReached
    }

    /// A server's side of a handshake takes some 80 KB: together they stay well below 64 MiB.
    package static let halfOpenInAll = 500
    package static let halfOpenPerAddress = 16
    package static let authenticatedInAll = 65_536
    /// A whole site may stand behind one address.
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

    /// Whether one more would be admitted now. Another loop may be faster: ``enter(_:)`` decides.
    package func wouldAdmit(_ address: UDPAddress) -> Admission {
        state.withLock { admission($0, address.limitKey) }
    }

    /// Counts one more if there is room.
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

    /// One that was admitted has proved itself or is over.
    package func release(_ address: UDPAddress) {
        state.withLock { state in
            let key = address.limitKey
            guard let count = state.byAddress[key] else { preconditionFailure("left without having entered") }
            state.byAddress[key] = count > 1 ? count - 1 : nil
            state.total &-= 1
        }
    }

    package var current: Int { state.withLock { $0.total } }

    private func admission(_ state: State, _ key: UInt64) -> Admission {
        if state.total >= total { return .totalLimitReached }
        if (state.byAddress[key] ?? 0) >= perAddress { return .addressLimitReached }
        return .admitted
    }
}
