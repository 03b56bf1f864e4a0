import Gateway
import NIOCore
import Store
import Testing

@Suite("When a replica is put away")
struct ReplicaSilenceTests {
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

    /// Looks once a second from one minute to another; returns the minute at which somebody is put away.
    private func watch(
        _ silence: inout DeadReplicaDetector,
        from start: Double,
        to end: Double,
        state: StoreState = .healthy,
        _ replicas: [ReplicaStatus]?
    ) -> Double? {
        var now = start
        while now < end {
            if !silence.observe(replicas, state: state, now: Self.minute(now)).isEmpty { return now }
            now += 1.0 / 60
        }
        return nil
    }

    private func isAfterTenMinutes(_ minute: Double?, from start: Double) -> Bool {
        minute.map { $0 > start + 10 && $0 < start + 10.1 } ?? false
    }

    @Test("It is ten minutes after its heartbeat moved last, and nobody else is")
    func silent() {
        var silence = DeadReplicaDetector()
        let replicas = [status(replica, movedAt: 5), status(other, movedAt: 14)]
        #expect(isAfterTenMinutes(watch(&silence, from: 0, to: 30, replicas), from: 5))
        #expect(silence.observe(replicas, state: .healthy, now: Self.minute(16)).map(\.incarnation) == [replica])
    }

    @Test("One that was never heard counts from when it was seen first")
    func neverHeard() {
        var silence = DeadReplicaDetector()
        #expect(watch(&silence, from: 0, to: 9, []) == nil)
        let replicas = [status(replica, movedAt: nil)]
        #expect(isAfterTenMinutes(watch(&silence, from: 9, to: 30, replicas), from: 9))
    }

    @Test("After a time in which our own store was not well, silence counts anew", arguments: StoreState.allCases)
    func unwell(_ state: StoreState) {
        guard state != .healthy else { return }
        var silence = DeadReplicaDetector()
        let replicas = [status(replica, movedAt: 0)]
        #expect(watch(&silence, from: 0, to: 5, replicas) == nil)
        #expect(watch(&silence, from: 5, to: 40, state: state, replicas) == nil)
        #expect(isAfterTenMinutes(watch(&silence, from: 40, to: 60, replicas), from: 40))
    }

    @Test("So it does after looks that failed, whatever the store says of itself")
    func failedLooks() {
        var silence = DeadReplicaDetector()
        let replicas = [status(replica, movedAt: 0)]
        #expect(watch(&silence, from: 0, to: 5, replicas) == nil)
        #expect(watch(&silence, from: 5, to: 40, nil) == nil)
        #expect(isAfterTenMinutes(watch(&silence, from: 40, to: 60, replicas), from: 40))
    }

    @Test("A heartbeat that moves again after a trouble saves it")
    func heardAgain() {
        var silence = DeadReplicaDetector()
        #expect(watch(&silence, from: 0, to: 5, [status(replica, movedAt: 0)]) == nil)
        #expect(watch(&silence, from: 5, to: 40, state: .stalled, [status(replica, movedAt: 0)]) == nil)
        #expect(watch(&silence, from: 40, to: 49, [status(replica, movedAt: 0)]) == nil)
        #expect(watch(&silence, from: 49, to: 58, [status(replica, movedAt: 49)]) == nil)
    }
}
