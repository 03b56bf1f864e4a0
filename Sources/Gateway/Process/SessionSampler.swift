import NIOCore
import Synchronization
import Transport

/// Reads the figures of every agent session every few seconds, on its loop, and adds what they grew by to the metrics.
final class SessionSampler: Sendable {
    private static let interval = TimeAmount.seconds(5)

    private let hub: AgentSessionManager
    private let loop: any EventLoop
    private let isStopped = Atomic<Bool>(false)

    init(hub: AgentSessionManager, loop: any EventLoop) {
        self.hub = hub
        self.loop = loop
    }

    func start() {
        guard !isStopped.load(ordering: .relaxed) else { return }
        loop.scheduleTask(in: Self.interval) {
            for row in self.hub.registry.rows {
                let session = row.member.session
                session.loop.execute { (session.handler as? AgentSession)?.sample() }
            }
            self.start()
        }
    }

    func stop() { isStopped.store(true, ordering: .relaxed) }
}
