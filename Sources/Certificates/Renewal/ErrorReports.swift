package import ACME
package import NIOCore
package import Store
import Synchronization

/// The reports of errors that are not a CA's. A failure of the store concerns every name at once, so that at most one
/// error a minute is reported, with the number of the others, and none while the store is not healthy.
package final class ErrorReports: Sendable {
    private static let pause = TimeAmount.minutes(1)

    private struct State {
        var next = NIODeadline.uptimeNanoseconds(0)
        var unreported = 0
    }

    private let store: any Store
    private let onEvent: @Sendable (RenewalEvent) -> Void
    private let state = Mutex(State())

    package init(store: any Store, onEvent: @escaping @Sendable (RenewalEvent) -> Void) {
        self.store = store
        self.onEvent = onEvent
    }

    /// Records that an operation for these names failed.
    package func record(_ error: StoreError, for names: [CertificateName], now: NIODeadline = .now()) {
        // The gateway logs the state of its store, and a pass that is cancelled or fenced is none that failed.
        guard !Task.isCancelled, error.code != .fenced, store.state == .healthy else { return }
        let others = state.withLock { state -> Int? in
            guard now >= state.next else {
                state.unreported += 1
                return nil
            }
            defer { state = State(next: now + Self.pause) }
            return state.unreported
        }
        if let others { onEvent(.error(names: names, error, others: others)) }
    }
}
