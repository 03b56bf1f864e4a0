import NIOCore
import Synchronization

/// The budget of this process for hosts on demand, for all of its keepers.
final class OnDemandBudget: Sendable {
    private let budget: Mutex<IssuanceBudget>

    init(perMinute: Int) {
        budget = Mutex(IssuanceBudget(perMinute: perMinute))
    }

    /// Asked before anything is taken for an order.
    var hasRoom: Bool { budget.withLock { $0.hasRoom(now: .now()) } }

    /// True: the order may begin; ``giveBack(_:)`` follows.
    func take(_ name: CertificateName) -> Bool {
        budget.withLock { $0.ask(name, now: .now()) == .granted }
    }

    func giveBack(_ name: CertificateName) {
        budget.withLock { $0.finished(name) }
    }
}
