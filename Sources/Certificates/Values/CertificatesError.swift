package import Files
package import Store

/// The reason why a certificate could not be loaded, created or stored: the place, the reason, and the remedy.
package struct CertificatesError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// The file could not be read or written.
        case file(FileError.Code)
        /// The store could not be read or written.
        case store(StoreError.Code)
        /// The content is not PEM, or lacks a certificate or key.
        case malformed
        /// A kind of key or certificate that cannot be served (encrypted, of an unknown algorithm, too weak).
        case unsupported
        /// The private key does not belong to the certificate.
        case keyMismatch
        /// The chain is not in the order of issuance.
        case chainOrder
        /// A certificate could not be created.
        case issuance
        /// No certificate exists at all, or none of that name.
        case missing
    }

    package let code: Code
    /// The path of the file, or the key in the store.
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

    /// The code of the store's error for the same value.
    package var storeCode: StoreError.Code { if case .store(let code) = code { code } else { .corrupt } }

    /// The reason why the newest version is not used, while another one is served.
    func serving(version: UInt64) -> CertificatesError {
        CertificatesError(code, path, "\(reason); version \(version) is served")
    }
}

extension CertificatesError {
    /// The categories by which metrics count problems.
    package enum Kind: String, CaseIterable, Sendable {
        case file
        case store
        case malformed
        case unsupported
        case keyMismatch = "key_mismatch"
        case issuance
    }

    package var kind: Kind {
        switch code {
        case .file: .file
        case .store, .missing: .store
        case .malformed, .chainOrder: .malformed
        case .unsupported: .unsupported
        case .keyMismatch: .keyMismatch
        case .issuance: .issuance
        }
    }
}
