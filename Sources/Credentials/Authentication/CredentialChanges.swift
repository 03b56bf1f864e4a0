/// The ids of the credentials that have changed since the last report.
package struct CredentialChanges: Sendable, Equatable {
    /// The revoked and removed credentials. The sessions that use them have to end.
    package var ended: Set<String> = []
    /// The credentials with other services, hosts, name or secrets. The registrations of their agents have to be
    /// checked again.
    package var changed: Set<String> = []
    package var added: Set<String> = []

    package init() {}

    package var isEmpty: Bool { ended.isEmpty && changed.isEmpty && added.isEmpty }
}
