/// One CA as it is configured. Its trust anchors are the HTTP client's business.
package struct ACMEAuthority: Equatable, Sendable {
    package var directory: ACMEURL
    package var externalAccount: ExternalAccount?
    /// E-mail addresses.
    package var contacts: [String]
    /// The operator has read the CA's terms of service.
    package var agreesToTerms: Bool

    package init(
        directory: ACMEURL,
        externalAccount: ExternalAccount? = nil,
        contacts: [String] = [],
        agreesToTerms: Bool
    ) {
        self.directory = directory
        self.externalAccount = externalAccount
        self.contacts = contacts
        self.agreesToTerms = agreesToTerms
    }

    /// What back-off and holds are kept under: ``RenewalState``.
    package var id: String { directory.text }
}
