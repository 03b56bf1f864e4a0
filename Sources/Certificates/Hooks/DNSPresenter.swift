package import NIOCore

/// Answers `dns-01` by a hook, and leaves other kinds alone. Hooks are called one after the other, because many read a
/// whole zone, change it and write it back.
package final class DNSPresenter: ChallengePresenter {
    private let hook: any DNSHook
    private let propagation: TimeAmount
    private let onProblem: @Sendable (PresentationError) -> Void
    /// One call at a time.
    private let turn = AsyncSemaphore(1)
    private static let givenUp = PresentationError("the order that this was for is given up")

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
            throw Self.givenUp
        }
    }

    private func inTurn(_ call: @Sendable () async throws(PresentationError) -> Void) async throws(PresentationError) {
        let result = await turn.withSlot { () -> Result<Void, PresentationError> in
            do throws(PresentationError) {
                return .success(try await call())
            } catch {
                return .failure(error)
            }
        }
        guard let result else { throw Self.givenUp }
        try result.get()
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

/// Several presenters as one: each answers the kinds that are its own.
package struct CombinedPresenter: ChallengePresenter {
    private let presenters: [any ChallengePresenter]

    package init(_ presenters: [any ChallengePresenter]) {
        self.presenters = presenters
    }

    package func present(_ tasks: [ChallengeTask]) async throws(PresentationError) {
        for presenter in presenters { try await presenter.present(tasks) }
    }

    package func withdraw(_ tasks: [ChallengeTask]) async {
        for presenter in presenters { await presenter.withdraw(tasks) }
    }
}
