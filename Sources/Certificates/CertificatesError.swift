/// Why a certificate could not be loaded, made or kept: what, in which file, and how to mend it.
package struct CertificatesError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// The file could not be read or written.
        case file(FileError.Code)
        /// It is not PEM, or holds no certificate or key where one has to be.
        case malformed
        /// A kind of key that is not supported (encrypted, or of an unknown algorithm).
        case unsupported
        /// The private key does not belong to the certificate.
        case keyMismatch
        /// Making a certificate failed.
        case issuance
    }

    package let code: Code
    /// The file in question.
    package let path: String
    package let reason: String

    package var description: String { "\(path): \(reason)" }

    package init(_ code: Code, _ path: String, _ reason: String) {
        self.code = code
        self.path = path
        self.reason = reason
    }

    init(_ error: FileError) {
        self.init(.file(error.code), error.path, error.reason)
    }

    /// For code that throws both kinds and no other.
    init(wrapping error: any Error) {
        switch error {
        case let error as CertificatesError: self = error
        case let error as FileError: self.init(error)
        default: preconditionFailure("no other error is thrown here: \(error)")
        }
    }
}
