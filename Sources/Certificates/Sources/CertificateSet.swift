import Formats
package import Store
import Synchronization

/// A certificate as it stands in the store: a key below `certs/`, whose generations are three files each.
///
/// `meta.json` says who published it (`source`) and when; nothing that is served depends on it, but for `removed`: such a
/// generation says that the certificate is to be served no more.
package enum CertificateSet {
    package static let prefix: StoreKey = "certs"
    /// The root of the development CA; no certificate that is served.
    package static let developmentCA: StoreKey = "certs/development-ca"

    package static let chainFile = "fullchain.pem"
    package static let keyFile = "key.pem"
    package static let metaFile = "meta.json"
    static let removed = "removed"

    /// What a look at a key found.
    struct Finding: Sendable {
        /// Of the newest generation that can be used.
        var generation: Generation?
        /// Nil: none was ever published, none can be used, or it was removed.
        var certificate: ServerCertificate?
        var origin: String?
        /// The directory URL of the CA that issued it by ACME.
        var authority: String?
        var isRemoved = false
        /// Why a newer generation cannot be used.
        var rejection: CertificatesError?
    }

    /// Reads the newest generation whose key fits its leaf and that the TLS libraries take. Dates are not judged.
    static func newest(
        _ key: StoreKey,
        in store: any Store,
        check: @escaping CertificateCheck
    ) async throws(StoreError) -> Finding {
        let candidates = CheckedCertificates(place: key.path, check: check)
        var finding = Finding()
        do throws(StoreError) {
            let stored = try await store.newest(key, files: [chainFile, keyFile, metaFile]) { candidates.accept($0) }
            finding.generation = stored.generation
            finding.isRemoved = isRemoved(stored.files)
            finding.certificate = candidates.accepted
            let meta = stored.files[metaFile].flatMap { [String: JSONValue](json: $0) }
            finding.origin = meta?["source"]?.string
            finding.authority = meta?["authority"]?.string
        } catch {
            guard error.code == .notFound else { throw error }
        }
        finding.rejection = candidates.rejection
        return finding
    }

    /// The number of the highest generation, usable or not.
    static func highestGeneration(_ key: StoreKey, in store: any Store) async throws(StoreError) -> Generation? {
        do throws(StoreError) {
            return try await store.newest(key, files: []) { _ in true }.generation
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
    }

    fileprivate static func isRemoved(_ files: [String: [UInt8]]) -> Bool {
        guard files[chainFile]?.isEmpty == true, files[keyFile]?.isEmpty == true else { return false }
        return files[metaFile].flatMap { [String: JSONValue](json: $0)?["source"]?.string } == removed
    }
}

/// What was found in the generations of one key, from the highest down to the one that was taken.
private final class CheckedCertificates: Sendable {
    private struct State {
        var accepted: ServerCertificate?
        /// Of the highest.
        var rejection: CertificatesError?
    }

    private let place: String
    private let check: CertificateCheck
    private let state = Mutex(State())

    init(place: String, check: @escaping CertificateCheck) {
        self.place = place
        self.check = check
    }

    var accepted: ServerCertificate? { state.withLock { $0.accepted } }
    var rejection: CertificatesError? { state.withLock { $0.rejection } }

    func accept(_ files: [String: [UInt8]]) -> Bool {
        if CertificateSet.isRemoved(files) { return true }
        do throws(CertificatesError) {
            let certificate = try ServerCertificate(
                chain: files[CertificateSet.chainFile] ?? [],
                key: files[CertificateSet.keyFile] ?? [],
                chainPath: "\(place)/\(CertificateSet.chainFile)",
                keyPath: "\(place)/\(CertificateSet.keyFile)"
            )
            try certificate.require(check)
            state.withLock { $0.accepted = certificate }
            return true
        } catch {
            state.withLock { $0.rejection = $0.rejection ?? error }
            return false
        }
    }
}
