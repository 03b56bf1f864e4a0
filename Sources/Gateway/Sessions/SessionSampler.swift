import NIOCore
import Synchronization
import Transport

/// Adds the statistics of every agent session to the metrics every few seconds, each on the session's own loop.
final class SessionSampler: Sendable {
    private static let interval = TimeAmount.seconds(5)

    private let manager: AgentSessionManager
    private let loop: any EventLoop
    private let isStopped = Atomic<Bool>(false)

    init(manager: AgentSessionManager, loop: any EventLoop) {
        self.manager = manager
        self.loop = loop
    }

    func start() {
        guard !isStopped.load(ordering: .relaxed) else { return }
        loop.scheduleTask(in: Self.interval) {
            for row in self.manager.registry.rows {
                let attachment = row.attachment
                attachment.session.loop.execute { attachment.sample() }
            }
            self.start()
        }
    }

    func stop() { isStopped.store(true, ordering: .relaxed) }
}
