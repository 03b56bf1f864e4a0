package import Certificates

/// Why a credential could not be made, read or changed: what, where, and how to mend it.
package struct CredentialError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// What was asked for is not possible as written (a bad name or pattern).
        case invalid
        /// There is no such credential.
        case notFound
        /// More than one credential has this name.
        case ambiguous
        /// A credential's file is not what this version writes.
        case malformed
        /// The file or folder cannot be used.
        case file(FileError.Code)
    }

    package let code: Code
    package let reason: String

    package var description: String { reason }

    init(_ code: Code, _ reason: String) {
        self.code = code
        self.reason = reason
    }

    init(_ error: FileError) {
        self.init(.file(error.code), error.description)
    }
}
