package import ACME
package import NIOCore

/// Answers `dns-01` by a hook, and leaves other kinds alone. Hooks are called one after the other, because many read a
/// whole zone, change it and write it back.
package final class DNSPresenter: ChallengePresenter {
    private let hook: any DNSHook
    private let propagation: TimeAmount
    private let onProblem: @Sendable (PresentationError) -> Void
    /// One call at a time.
    private let turn = AsyncSemaphore(1)
    private static let abandoned = PresentationError("the order was abandoned")

    /// - Parameters:
    ///   - propagation: what passes between the hook's success and the CA's look.
    ///   - onProblem: a record could not be taken away; that does no harm but to whoever reads the zone.
    package init(
        _ hook: any DNSHook,
        propagation: TimeAmount = DNSHookSettings.standardPropagation,
        onProblem: @escaping @Sendable (PresentationError) -> Void
    ) {
        self.hook = hook
        self.propagation = propagation
        self.onProblem = onProblem
    }

    package func present(_ tasks: [ChallengeTask]) async throws(PresentationError) {
        let tasks = tasks.filter { $0.kind == .dns01 }
        guard !tasks.isEmpty else { return }
        for task in tasks { try await inTurn { () throws(PresentationError) in try await self.hook.present(task) } }
        do {
            try await Task.sleep(for: .nanoseconds(propagation.nanoseconds))
        } catch {
            throw Self.abandoned
        }
    }

    private func inTurn(_ call: @Sendable () async throws(PresentationError) -> Void) async throws(PresentationError) {
        guard try await turn.withPermit(call) != nil else { throw Self.abandoned }
    }

    package func withdraw(_ tasks: [ChallengeTask]) async {
        for task in tasks where task.kind == .dns01 {
            do throws(PresentationError) {
                try await inTurn { () throws(PresentationError) in try await self.hook.cleanUp(task) }
            } catch {
                onProblem(error)
            }
        }
    }
}
