import Synchronization

/// The certificates from configured files, the last good one of each.
///
/// ``reload()`` blocks for as long as the volume of the files does, and is called by one thread at a time. Everything
/// else returns at once.
final class ConfiguredCertificates: Sendable {
    private struct Entry {
        let files: CertificateFiles
        /// The content that was read last, good or bad, so that the same bytes are not parsed again.
        var contents: CertificateFiles.Contents?
        var certificate: ServerCertificate?
        var problem: CertificatesError?
    }

    private let check: CertificateCheck
    private let entries: Mutex<[Entry]>

    init(_ files: [CertificateFiles], check: @escaping CertificateCheck) {
        self.check = check
        entries = Mutex(files.map { Entry(files: $0) })
    }

    var isEmpty: Bool { entries.withLock { $0.isEmpty } }

    /// The certificates in the order of the configuration.
    var certificates: [ServerCertificate] { entries.withLock { $0.compactMap(\.certificate) } }

    /// The first problem.
    var problem: CertificatesError? { entries.withLock { $0.lazy.compactMap(\.problem).first } }

    var statuses: [CertificateStatus] {
        entries.withLock { $0 }.map { entry in
            CertificateStatus(
                source: .files,
                place: entry.files.certificate,
                certificate: entry.certificate,
                problem: entry.problem
            )
        }
    }

    /// Reads all files. Returns whether a certificate or a problem has changed.
    func reload() -> Bool {
        var all = entries.withLock { $0 }
        var changed = false
        for index in all.indices where Self.reload(&all[index], check) { changed = true }
        let new = all
        if changed { entries.withLock { $0 = new } }
        return changed
    }

    private static func reload(_ entry: inout Entry, _ check: CertificateCheck) -> Bool {
        do throws(CertificatesError) {
            let contents = try entry.files.read()
            if contents == entry.contents {
                // Unchanged, or readable again with the same content as before.
                guard entry.problem != nil, let certificate = entry.certificate else { return false }
                guard certificate.isSame(as: try entry.files.parse(contents)) else { return false }
                entry.problem = nil
                return true
            }
            entry.contents = contents
            let certificate = try entry.files.parse(contents)
            try certificate.require(check)
            if entry.certificate?.isSame(as: certificate) != true { entry.certificate = certificate }
            entry.problem = nil
            return true
        } catch {
            defer { entry.problem = error }
            return entry.problem != error
        }
    }
}
