package import NIOCore
import Synchronization

/// The half-open sessions of a listener, whose peers have not authenticated themselves: their limits, and the choice of
/// the one that makes room for a newcomer. Shared by all loops of the listener and thread-safe; used once per
/// handshake, never per packet.
///
/// When all places are taken, the network that has most of them loses its oldest session: of the IPv6 /48 that has
/// most, the /56 that has most, and so on; an IPv4 address is a network of its own. So no network locks the others
/// out. A session keeps its place for ``protectedAge``, in which an honest peer authenticates itself; without that, a
/// thousand agents that return at once would end each other's handshakes.
package final class HalfOpenSessions: Sendable {
    package struct Ticket: Hashable, Sendable {
        fileprivate let number: UInt64
    }

    package enum Admission: Equatable {
        /// The session has a place until ``release(_:)``. `evicting` is whether another one has lost its place for it.
        case admitted(Ticket, evicting: Bool)
        case totalLimitReached
        case addressLimitReached
    }

    /// The default limit. A server's side of a handshake takes some 80 KB, and not more than 120 KB under attack, so
    /// together they stay below 64 MiB.
    package static let inAll = 500
    package static let perAddress = 16
    package static let protectedAge = TimeAmount.seconds(1)

    private struct Entry {
        let ticket: Ticket
        let networks: [UInt64]
        let since: NIODeadline
        /// Ends the session, or `nil` while it is being created.
        var evict: (@Sendable () -> Void)?
    }

    private struct State {
        /// The oldest first.
        var entries: [Entry] = []
        /// The number of entries of each network, by level.
        var counts: [[UInt64: Int]] = [[:], [:], [:]]
        var lastNumber: UInt64 = 0

        mutating func insert(_ networks: [UInt64], now: NIODeadline) -> Ticket {
            lastNumber += 1
            let ticket = Ticket(number: lastNumber)
            entries.append(Entry(ticket: ticket, networks: networks, since: now))
            for (level, network) in networks.enumerated() { counts[level][network, default: 0] += 1 }
            return ticket
        }

        mutating func remove(at index: Int) -> Entry {
            let entry = entries.remove(at: index)
            for (level, network) in entry.networks.enumerated() {
                let count = counts[level][network, default: 0]
                counts[level][network] = count > 1 ? count - 1 : nil
            }
            return entry
        }

        /// Returns the index of the session that makes room, or `nil` if all of them are too young.
        func victim(now: NIODeadline) -> Int? {
            var victim: (index: Int, rank: (Int, Int, Int))?
            for (index, entry) in entries.enumerated() {
                if entry.since + HalfOpenSessions.protectedAge > now { break }
                guard entry.evict != nil else { continue }
                let rank = (
                    counts[2][entry.networks[2], default: 0], counts[1][entry.networks[1], default: 0],
                    counts[0][entry.networks[0], default: 0]
                )
                // Of equal networks, the first entry is the oldest.
                if victim.map({ rank > $0.rank }) ?? true { victim = (index, rank) }
            }
            return victim?.index
        }
    }

    private let total: Int
    private let perAddress: Int
    private let state = Mutex(State())

    package init(total: Int = HalfOpenSessions.inAll, perAddress: Int = HalfOpenSessions.perAddress) {
        self.total = total
        self.perAddress = perAddress
    }

    /// Gives one more session a place, if its address has not too many. Called when its address is proved, and before
    /// anything costly is done for it. ``prepare(_:evict:)`` follows.
    package func admit(_ address: UDPAddress, now: NIODeadline) -> Admission {
        let (admission, evict) = state.withLock { state -> (Admission, (@Sendable () -> Void)?) in
            let networks = address.networks
            guard state.counts[0][networks[0], default: 0] < perAddress else { return (.addressLimitReached, nil) }
            guard state.entries.count >= total else {
                return (.admitted(state.insert(networks, now: now), evicting: false), nil)
            }
            guard let victim = state.victim(now: now) else { return (.totalLimitReached, nil) }
            let evict = state.remove(at: victim).evict
            return (.admitted(state.insert(networks, now: now), evicting: true), evict)
        }
        evict?()
        return admission
    }

    /// Sets the closure that ends an admitted session when it loses its place. It is called on any thread.
    package func prepare(_ ticket: Ticket, evict: @escaping @Sendable () -> Void) {
        state.withLock { state in
            // The newest are last.
            guard let index = state.entries.lastIndex(where: { $0.ticket == ticket }) else { return }
            state.entries[index].evict = evict
        }
    }

    /// Releases the place of a session that has authenticated itself or closed. Does nothing if it was lost before.
    package func release(_ ticket: Ticket) {
        // The closure is released outside the lock, since it may hold the last reference to a session.
        _ = state.withLock { state in
            state.entries.firstIndex { $0.ticket == ticket }.map { state.remove(at: $0) }
        }
    }

    /// The number of sessions that have a place now.
    package var current: Int { state.withLock { $0.entries.count } }
}
