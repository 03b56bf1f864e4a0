package import ACME

/// The part of the gateway that makes responses to challenges available where a CA looks for them: on every replica, or
/// in the DNS.
package protocol ChallengePresenter: Sendable {
    /// Presents the responses. Returns when the CA may validate: every live replica serves the response, or the wait
    /// for it timed out, and DNS records exist. Presenting a task again, also by another replica, is not an error.
    func present(_ tasks: [ChallengeTask]) async throws(PresentationError)

    /// Removes the responses. Failures are not reported to the caller: what cannot be removed now expires or is logged.
    func withdraw(_ tasks: [ChallengeTask]) async
}

/// The reason why a CA would not find the response to a challenge.
package struct PresentationError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The reason, the place, and the remedy.
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}

/// Several presenters as one. Each handles its own kinds of challenges and ignores the others.
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
