package import Store

/// Why a credential could not be made, read or changed: what, where, and how to mend it.
package struct CredentialError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// What was asked for is not possible as written (a bad name or pattern).
        case invalid
        /// There is no such credential.
        case notFound
        /// More than one credential has this name.
        case ambiguous
        /// It was revoked, and what was asked for needs a good one.
        case revoked
        /// A genuine document that this version cannot make sense of.
        case malformed
        /// A join file cannot be read or written.
        case joinFile
        /// An older version than one that was seen is the newest now.
        case rolledBack
        /// The store could not do it, or the document is not genuine.
        case store(StoreError.Code)
    }

    package let code: Code
    package let reason: String

    package var description: String { reason }

    init(_ code: Code, _ reason: String) {
        self.code = code
        self.reason = reason
    }

    init(_ error: StoreError) {
        self.init(.store(error.code), error.description)
    }

    /// Whether it is the document that is wrong; otherwise the store did not answer as it should.
    var isOfDocument: Bool {
        switch code {
        case .malformed, .rolledBack: true
        case .store(let code):
            switch code {
            case .corrupt, .foreign, .newerFormat, .refused, .tooLarge, .badName, .denied: true
            default: false
            }
        default: false
        }
    }
}

/// Why a document in the store was not taken, as the metrics count it.
package enum CredentialFault: String, CaseIterable, Sendable {
    /// No MAC, or a wrong one.
    case mac
    /// Sealed with a key that is not ours.
    case foreign
    case format
    case malformed
    case rolledBack = "rolled_back"
    /// A link, open to others, too large, not readable.
    case file
    /// The store did not answer.
    case unreadable

    init(_ error: CredentialError) {
        self =
            switch error.code {
            case .malformed, .invalid, .notFound, .ambiguous, .revoked, .joinFile: .malformed
            case .rolledBack: .rolledBack
            case .store(.corrupt): .mac
            case .store(.foreign): .foreign
            case .store(.newerFormat): .format
            case .store(.refused), .store(.tooLarge), .store(.badName), .store(.denied): .file
            case .store: .unreadable
            }
    }
}
