package import ACME
package import NIOCore
package import Outbound

/// Changes the DNS for `dns-01` (RFC 8555 §8.4): something of the operator's that knows the provider's interface.
///
/// A record has the task's ``ChallengeTask/recordName`` and ``ChallengeTask/recordValue``; several values stand under
/// one name at a time. Both calls may come more than once for the same task, from this replica and others.
package protocol DNSHook: Sendable {
    /// Adds the record beside those that are there. Returns when the provider has taken it.
    func present(_ task: ChallengeTask) async throws(PresentationError)

    /// Takes away the record with this value, and no other. One that is gone is no error.
    func cleanUp(_ task: ChallengeTask) async throws(PresentationError)
}

/// What a hook is to do.
enum HookAction: String {
    case present
    case cleanUp = "cleanup"
}

/// The hook for `dns-01` as it is configured.
package struct DNSHookSettings: Sendable, Equatable {
    package enum Hook: Sendable, Equatable {
        /// A server that is asked over HTTP; see ``HTTPHook``.
        ///
        /// - Parameter bundle: PEM file of the authorities that its certificate must come from; nil: the system's.
        case http(ACMEURL, credential: HookCredential?, bundle: String?)
        /// A program at this path; see ``ProgramHook``.
        case program(String)
    }

    package static let standardPropagation = TimeAmount.seconds(10)

    package var hook: Hook
    /// What passes between the hook's success and the CA's look.
    package var propagation: TimeAmount

    package init(_ hook: Hook, propagation: TimeAmount = standardPropagation) {
        self.hook = hook
        self.propagation = propagation
    }

    /// - Parameters:
    ///   - client: for the hook that is asked over HTTP; its owner closes it.
    ///   - environment: this process's, of which a program gets what is no setting of ours.
    package func make(client: OutboundClient, environment: [String: String]) -> any DNSHook {
        switch hook {
        case .http(let url, let credential, let bundle):
            HTTPHook(
                url,
                credential: credential,
                trust: bundle.map { .file(path: $0) } ?? .system,
                client: client
            )
        case .program(let path): ProgramHook(path, environment: environment)
        }
    }
}
