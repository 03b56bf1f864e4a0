package import ACME
package import NIOCore
package import Outbound

/// A hook that changes the DNS for `dns-01` (RFC 8555 §8.4), provided by the operator for the DNS provider's interface.
///
/// A record has the task's ``ACME/ChallengeTask/recordName`` and ``ACME/ChallengeTask/recordValue``. Several values may
/// exist under one name at a time. Every call may be repeated for the same task, by this replica and others.
package protocol DNSHook: Sendable {
    /// Performs an action, and returns when the provider has accepted it.
    func perform(_ action: HookAction, _ task: ChallengeTask) async throws(PresentationError)
}

/// The action that a hook performs.
package enum HookAction: String, Sendable {
    /// Adds the record to the existing ones.
    case present
    /// Removes the record with this value, and no other. A missing record is no error.
    case cleanUp = "cleanup"
}

/// The configuration of the hook for `dns-01`.
package struct DNSHookSettings: Sendable, Equatable {
    package enum Hook: Sendable, Equatable {
        /// A server that is called over HTTP; see ``HTTPHook``.
        ///
        /// - Parameter bundle: The PEM file of the CAs that may issue the server's certificate, or `nil` for the
        ///   system's.
        case http(ACMEURL, credential: HookCredential?, bundle: String?)
        /// A program at this path; see ``ProgramHook``.
        case program(String)
    }

    package static let standardPropagation = TimeAmount.seconds(10)

    package var hook: Hook
    /// The time between the hook's success and the CA's validation.
    package var propagation: TimeAmount

    package init(_ hook: Hook, propagation: TimeAmount = standardPropagation) {
        self.hook = hook
        self.propagation = propagation
    }

    /// Creates the hook.
    ///
    /// - Parameters:
    ///   - client: The client of an HTTP hook; its owner closes it.
    ///   - environment: The environment of this process, from which a program inherits what is not a setting of the
    ///     gateway.
    package func make(client: OutboundClient, environment: [String: String]) -> any DNSHook {
        switch hook {
        case .http(let url, let credential, let bundle):
            HTTPHook(url, credential: credential, trust: bundle.map { .file(path: $0) } ?? .system, client: client)
        case .program(let path): ProgramHook(path, environment: environment)
        }
    }
}
