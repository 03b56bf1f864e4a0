import Formats
package import Store
import Synchronization

/// A certificate in the store: a key below `certs/`, each generation of which has three files.
///
/// `meta.json` records who published it (`source`) and when. What is served does not depend on it, except that a source
/// of `removed` means that the certificate is no longer to be served.
package enum CertificateSet {
    package static let prefix: StoreKey = "certs"
    /// The key of the development CA's root, which is not served itself.
    package static let developmentCA: StoreKey = "certs/development-ca"

    package static let chainFile = "fullchain.pem"
    package static let keyFile = "key.pem"
    package static let metaFile = "meta.json"
    static let removed = "removed"

    /// The result of reading a key.
    struct Finding: Sendable {
        /// The newest usable generation.
        var generation: Generation?
        /// The certificate, or `nil` if none was published, none is usable, or it was removed.
        var certificate: ServerCertificate?
        var origin: String?
        /// The directory URL of the CA that issued the certificate by ACME.
        var authority: String?
        var isRemoved = false
        /// The reason why a newer generation is not usable.
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

/// The outcome of checking the generations of one key, from the highest down to the accepted one.
private final class CheckedCertificates: Sendable {
    private struct State {
        var accepted: ServerCertificate?
        /// The problem of the highest generation.
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
