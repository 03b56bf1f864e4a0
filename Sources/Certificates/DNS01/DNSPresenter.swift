package import ACME
package import NIOCore
import Threads

/// A presenter that responds to `dns-01` by a hook and ignores other kinds. Hooks are called one at a time, because
/// many read a whole zone, change it and write it back.
package final class DNSPresenter: ChallengePresenter {
    private let hook: any DNSHook
    private let propagation: TimeAmount
    private let onProblem: @Sendable (PresentationError) -> Void
    /// The permit of the one call at a time.
    private let turn = AsyncSemaphore(1)
    private static let abandoned = PresentationError("the order was abandoned")

    /// - Parameters:
    ///   - propagation: The time between the hook's success and the CA's validation.
    ///   - onProblem: Called if a record could not be removed, which leaves a useless record in the zone but does no
    ///     harm.
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
        for task in tasks { try await perform(.present, task) }
        do {
            try await Task.sleep(for: .nanoseconds(propagation.nanoseconds))
        } catch {
            throw Self.abandoned
        }
    }

    /// Calls the hook when no other call runs.
    private func perform(_ action: HookAction, _ task: ChallengeTask) async throws(PresentationError) {
        let call = { () async throws(PresentationError) in try await self.hook.perform(action, task) }
        guard try await turn.withPermit(call) != nil else { throw Self.abandoned }
    }

    package func withdraw(_ tasks: [ChallengeTask]) async {
        for task in tasks where task.kind == .dns01 {
            do throws(PresentationError) {
                try await perform(.cleanUp, task)
            } catch {
                onProblem(error)
            }
        }
    }
}
