import FoundationEssentials
package import Logging
package import NIOCore
package import Store
import Synchronization

/// This process as a member of the cluster: its description and its heartbeat in the store.
///
/// The data path waits for none of it. While the volume accepts no writes the process serves without being a visible
/// member, and becomes one as soon as the volume recovers.
package final class ReplicaPresence: Sendable {
    private static let interval = Duration.milliseconds(500)

    private struct State {
        var member: (any StoreMember)?
        var status = MemberStatus()
        /// The address at which other replicas reach this one.
        var mesh: String?

        func publish() {
            let status = status
            member?.update { $0 = status }
        }
    }

    private let shared: SharedStore
    private let name: String
    private let version: String
    private let logger: Logger
    private let first = Incarnation(milliseconds: UInt64(Date().timeIntervalSince1970 * 1_000)) {
        UInt64.random(in: .min ... .max)
    }
    private let state = Mutex(State())

    package init(shared: SharedStore, name: String, version: String, logger: Logger) {
        self.shared = shared
        self.name = name
        self.version = version
        self.logger = logger
    }

    /// The incarnation of this process. It changes if peers have declared the process dead.
    package var incarnation: Incarnation { state.withLock { $0.member?.incarnation } ?? first }

    package var hasJoined: Bool { state.withLock { $0.member != nil } }

    /// The mark that covers what this process has written, or `nil` while it has not joined.
    package var mark: Mark? { state.withLock { $0.member }?.mark }

    /// This process as the other replicas see it, or `nil` while it has not joined.
    func status(movedAt: NIODeadline) -> ReplicaStatus? {
        let (member, status, mesh) = state.withLock { ($0.member, $0.status, $0.mesh) }
        guard let member else { return nil }
        var own = ReplicaStatus(incarnation: member.incarnation)
        own.info = ReplicaInfo(name: name, version: version, keys: shared.keyring.keys.map(\.id), mesh: mesh)
        (own.status, own.movedAt) = (status, movedAt)
        return own
    }

    /// Sets the address (`host:port`) at which other replicas reach this one. Called before ``run()``.
    package func publish(mesh address: String) { state.withLock { $0.mesh = address } }

    /// Changes the fields of the next heartbeats.
    package func update(_ change: (inout MemberStatus) -> Void) {
        state.withLock { state in
            let before = state.status
            change(&state.status)
            // Under the lock, so that of two changes at the same time the later one is published last.
            if state.status != before { state.publish() }
        }
    }

    /// Sets a row of this process.
    ///
    /// - Throws: `busy` while this process has not joined, and the errors of ``StoreMember/put(key:value:)``.
    package func put(row key: [UInt8], _ value: [UInt8]) throws(StoreError) {
        try joinedMember().put(key: key, value: value)
    }

    /// Removes a row of this process.
    ///
    /// - Throws: As ``put(row:_:)``.
    package func remove(row key: [UInt8]) throws(StoreError) { try joinedMember().remove(key: key) }

    private func joinedMember() throws(StoreError) -> any StoreMember {
        guard let member = state.withLock({ $0.member }) else {
            throw StoreError(.busy, "replicas", "this process has not joined the cluster yet")
        }
        return member
    }

    /// Waits until the fields that were set before this call are on the volume.
    package func flush(within limit: TimeAmount) async throws(StoreError) {
        try await state.withLock { $0.member }?.flush(within: limit)
    }

    /// Records in the heartbeat that this process leaves, and waits no longer than a healthy volume needs: a volume
    /// that hangs does not delay the exit.
    package func leave() async {
        update { $0.state = .left }
        try? await flush(within: StoreHealth.limit)
    }

    /// Joins the cluster as soon as the volume permits, then keeps the description current, until the task is
    /// cancelled.
    package func run() async {
        var hasLogged = false
        while !Task.isCancelled, state.withLock({ $0.member == nil }) {
            do throws(StoreError) {
                try await join()
            } catch {
                if !hasLogged {
                    logger.warning("replica not registered in the store yet", metadata: ["error": "\(error)"])
                }
                hasLogged = true
                try? await Task.sleep(for: Self.interval)
            }
        }
        var keys = shared.keyring
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.interval)
            guard shared.keyring != keys else { continue }
            keys = shared.keyring
            state.withLock { $0.member }?.renewInfo()
        }
    }

    private func join() async throws(StoreError) {
        let (shared, name, version, logger, first) = (shared, name, version, logger, first)
        let mesh = state.withLock { $0.mesh }
        let names = Mutex([first])
        let member = try await shared.store.join(
            JoinOptions(
                incarnation: {
                    names.withLock { $0.popLast() }
                        ?? Incarnation(milliseconds: first.milliseconds) { UInt64.random(in: .min ... .max) }
                },
                info: { incarnation in
                    let keyring = shared.keyring
                    return ReplicaInfo(name: name, version: version, keys: keyring.keys.map(\.id), mesh: mesh)
                        .sealed(for: incarnation, with: keyring.signing)
                },
                onNewIncarnation: { incarnation in
                    logger.warning(
                        "replica was declared dead by its peers; continuing as a new incarnation",
                        metadata: ["incarnation": "\(incarnation)"]
                    )
                }
            )
        )
        state.withLock { state in
            state.member = member
            state.publish()
        }
    }
}
