package import ACME

/// Puts the answers to challenges where a CA looks for them: on every replica, or in the DNS. What stands behind it is
/// the gateway's business; tests have their own.
package protocol ChallengePresenter: Sendable {
    /// Returns when the CA may look: every live replica answers, or was waited for long enough; the records are there.
    /// Tasks that were presented before, by whomever, are no error.
    func present(_ tasks: [ChallengeTask]) async throws(PresentationError)

    /// Nobody asks for these any more. What cannot be taken away now goes later by itself, or is told in the log.
    func withdraw(_ tasks: [ChallengeTask]) async
}

/// Why a CA would not find the answer to a challenge.
package struct PresentationError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What, where, and how to mend it.
    package let description: String

    package init(_ description: String) {
        self.description = description
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
