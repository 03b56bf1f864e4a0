/// Changes the DNS for `dns-01` (RFC 8555 section 8.4): something of the operator's that knows the provider's interface.
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
