import Cluster
import NIOCore
import Store
import Testing

@Suite("Detection of dead replicas")
struct DeadReplicaDetectorTests {
    private let replica = Incarnation(milliseconds: 1) { 1 }
    private let other = Incarnation(milliseconds: 2) { 2 }

    private static func minute(_ count: Double) -> NIODeadline {
        .uptimeNanoseconds(1_000_000_000_000) + .seconds(Int64(count * 60))
    }

    private func status(_ incarnation: Incarnation, movedAt: Double?) -> ReplicaStatus {
        var status = ReplicaStatus(incarnation: incarnation)
        status.movedAt = movedAt.map(Self.minute)
        return status
    }

    /// Polls once a second from one minute to another; returns the minute at which a replica is first found dead.
    private func watch(
        _ detector: inout DeadReplicaDetector,
        from start: Double,
        to end: Double,
        state: StoreState = .healthy,
        _ replicas: [ReplicaStatus]
    ) -> Double? {
        var now = start
        while now < end {
            if !detector.observe(replicas, state: state, now: Self.minute(now)).isEmpty { return now }
            now += 1.0 / 60
        }
        return nil
    }

    private func isAfterTenMinutes(_ minute: Double?, from start: Double) -> Bool {
        minute.map { $0 > start + 10 && $0 < start + 10.1 } ?? false
    }

    @Test("A replica is dead ten minutes after its last heartbeat, and no other one is")
    func silent() {
        var detector = DeadReplicaDetector()
        let replicas = [status(replica, movedAt: 5), status(other, movedAt: 14)]
        #expect(isAfterTenMinutes(watch(&detector, from: 0, to: 30, replicas), from: 5))
        #expect(detector.observe(replicas, state: .healthy, now: Self.minute(16)).map(\.incarnation) == [replica])
    }

    @Test("The silence of a replica without heartbeat counts from its first observation")
    func neverHeard() {
        var detector = DeadReplicaDetector()
        #expect(watch(&detector, from: 0, to: 9, []) == nil)
        let replicas = [status(replica, movedAt: nil)]
        #expect(isAfterTenMinutes(watch(&detector, from: 9, to: 30, replicas), from: 9))
    }

    @Test("If the local store was not healthy, silence counts from its recovery", arguments: StoreState.allCases)
    func unwell(_ state: StoreState) {
        guard state != .healthy else { return }
        var detector = DeadReplicaDetector()
        let replicas = [status(replica, movedAt: 0)]
        #expect(watch(&detector, from: 0, to: 5, replicas) == nil)
        #expect(watch(&detector, from: 5, to: 40, state: state, replicas) == nil)
        #expect(isAfterTenMinutes(watch(&detector, from: 40, to: 60, replicas), from: 40))
    }

    @Test("The silence of a replica whose files could not be read counts from the time at which they can")
    func unreadable() {
        var detector = DeadReplicaDetector()
        let replicas = [status(replica, movedAt: 0)]
        #expect(watch(&detector, from: 0, to: 5, replicas) == nil)
        var hidden = replicas[0]
        hidden.readProblem = StoreError(.stalled, "replicas", "does not answer")
        #expect(watch(&detector, from: 5, to: 40, [hidden]) == nil)
        #expect(isAfterTenMinutes(watch(&detector, from: 40, to: 60, replicas), from: 40))
    }

    @Test("A replica whose heartbeat moves again after the store recovered is not dead")
    func heardAgain() {
        var detector = DeadReplicaDetector()
        #expect(watch(&detector, from: 0, to: 5, [status(replica, movedAt: 0)]) == nil)
        #expect(watch(&detector, from: 5, to: 40, state: .stalled, [status(replica, movedAt: 0)]) == nil)
        #expect(watch(&detector, from: 40, to: 49, [status(replica, movedAt: 0)]) == nil)
        #expect(watch(&detector, from: 49, to: 58, [status(replica, movedAt: 49)]) == nil)
    }
}
