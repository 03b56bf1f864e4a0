package import Files
package import Store

/// Why a certificate could not be loaded, made or kept: what, where, and how to mend it.
package struct CertificatesError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// The file could not be read or written.
        case file(FileError.Code)
        /// The store could not be asked or written.
        case store(StoreError.Code)
        /// It is not PEM, or holds no certificate or key where one has to be.
        case malformed
        /// A kind of key or certificate that cannot be served (encrypted, of an unknown algorithm, too weak).
        case unsupported
        /// The private key does not belong to the certificate.
        case keyMismatch
        /// The certificates of a chain do not follow each other.
        case chainOrder
        /// A generation in the store lacks files.
        case incomplete
        /// Making a certificate failed.
        case issuance
        /// There is no certificate at all, or none of that name.
        case missing
    }

    package let code: Code
    /// The file, or the key in the store.
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

    package init(_ error: StoreError) {
        self.init(.store(error.code), error.place, error.reason)
    }
}

extension CertificatesError {
    /// What the metrics count problems by.
    package enum Kind: String, CaseIterable, Sendable {
        case file
        case store
        case malformed
        case unsupported
        case keyMismatch = "key_mismatch"
        case incomplete
        case issuance
    }

    package var kind: Kind {
        switch code {
        case .file: .file
        case .store, .missing: .store
        case .malformed, .chainOrder: .malformed
        case .unsupported: .unsupported
        case .keyMismatch: .keyMismatch
        case .incomplete: .incomplete
        case .issuance: .issuance
        }
    }
}
