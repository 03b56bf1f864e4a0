package import Store

/// An error of creating, reading or changing a credential: what is wrong, where, and the remedy.
package struct CredentialError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// An argument is invalid, such as a name or a pattern.
        case invalid
        /// No credential has this id or name.
        case notFound
        /// More than one credential has this name.
        case ambiguous
        /// The credential is revoked, and the operation needs a valid one.
        case revoked
        /// The document is genuine, but not in a form that this release understands.
        case malformed
        /// A join file cannot be read or written.
        case joinFile
        /// The store failed, or the document is not genuine.
        case store(StoreError.Code)
    }

    package let code: Code
    package let reason: String
    /// Whether an argument names a file that does not exist or is not a plain file.
    package let isOfArgument: Bool

    package var description: String { reason }

    package init(_ code: Code, _ reason: String, isOfArgument: Bool = false) {
        self.code = code
        self.reason = reason
        self.isOfArgument = isOfArgument
    }

    init(_ error: StoreError) {
        self.init(.store(error.code), error.description)
    }

    /// Performs a call of the store whose failure is one of the credential.
    static func wrapping<Result>(
        _ call: () async throws(StoreError) -> Result
    ) async throws(CredentialError) -> Result {
        do throws(StoreError) {
            return try await call()
        } catch {
            throw CredentialError(error)
        }
    }

    /// Whether the document is wrong. Otherwise the store did not respond as it should.
    var isOfDocument: Bool {
        switch code {
        case .malformed: true
        case .store(let code):
            switch code {
            case .corrupt, .foreign, .newerFormat, .rolledBack, .refused, .tooLarge, .badName, .denied: true
            default: false
            }
        default: false
        }
    }
}

/// The reason why a document in the store was rejected, as a metric label.
package enum CredentialFault: String, CaseIterable, Sendable {
    /// The MAC is missing or wrong.
    case mac
    /// The document is sealed with an unknown key.
    case foreign
    case format
    case malformed
    case rolledBack = "rolled_back"
    /// The file is a symbolic link, open to other users, too large, or not readable.
    case file
    /// The store did not respond.
    case unreadable

    init(_ error: CredentialError) {
        self =
            switch error.code {
            case .malformed, .invalid, .notFound, .ambiguous, .revoked, .joinFile: .malformed
            case .store(.rolledBack): .rolledBack
            case .store(.corrupt): .mac
            case .store(.foreign): .foreign
            case .store(.newerFormat): .format
            case .store(.refused), .store(.tooLarge), .store(.badName), .store(.denied): .file
            case .store: .unreadable
            }
    }
}
