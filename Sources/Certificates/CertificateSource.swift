package import FoundationEssentials
import Synchronization

/// Where the gateway's certificates come from, and the one place that holds the current ones.
///
/// Look-ups read an immutable ``CertificateSnapshot`` that is swapped as a whole; files and disks are touched only by
/// the thread that ``watch(onChange:onProblem:)`` starts. What cannot be read or does not fit keeps the last good
/// certificate.
package final class CertificateSource: Sendable {
    /// How often files are read again, in milliseconds.
    package static let interval: Int32 = 2_000

    /// The root of the development CA, if that is the source: its path and fingerprint are shown at start.
    package let developmentRoot: DevelopmentRoot?

    private let current: Mutex<CertificateSnapshot>
    /// Held over disk accesses; only those who reload ever wait for it.
    private let origin: Mutex<Origin>
    private let wanted: Mutex<Wanted>
    private let watcher = Mutex<PollingThread?>(nil)

    private enum Origin {
        case files([FileEntry])
        case development(DevelopmentCA)
    }

    private struct FileEntry {
        let files: CertificateFiles
        /// What was read last, good or bad: the same bytes are not parsed again.
        var contents: CertificateFiles.Contents
        var certificate: ServerCertificate
        /// Reported already; nil while all is well.
        var problem: CertificatesError?
    }

    /// Names that the development leaf has to cover beside the fixed ones.
    private struct Wanted {
        var names: [String]
        var problem: CertificatesError?
    }

    /// Certificates from files. All of them have to be good now; later bad ones are reported and the last good ones
    /// kept.
    package init(files: [CertificateFiles]) throws(CertificatesError) {
        precondition(!files.isEmpty, "with no files the development CA is the source")
        var entries: [FileEntry] = []
        for pair in files {
            let contents = try pair.read()
            entries.append(FileEntry(files: pair, contents: contents, certificate: try pair.parse(contents)))
        }
        current = Mutex(CertificateSnapshot(entries.map(\.certificate)))
        origin = Mutex(.files(entries))
        wanted = Mutex(Wanted(names: []))
        developmentRoot = nil
    }

    /// The development CA in this folder, with a leaf for these names.
    package init(developmentCA directory: String, names: [String], now: Date = Date()) throws(CertificatesError) {
        let authority = try DevelopmentCA.loadOrCreate(directory: directory, names: names, now: now)
        current = Mutex(CertificateSnapshot([authority.leaf]))
        origin = Mutex(.development(authority))
        wanted = Mutex(Wanted(names: names))
        developmentRoot = authority.root
    }

    package var snapshot: CertificateSnapshot {
        current.withLock { $0 }
    }

    /// Asks for these names in the development leaf (hosts that agents serve); it is issued again off the caller's
    /// thread. Nothing happens when they are covered, when certificates come from files, or above
    /// ``DevelopmentCA/nameLimit``.
    package func cover(names: [String]) {
        let changed = wanted.withLock { wanted in
            let new = names.filter { !wanted.names.contains($0) }
            guard !new.isEmpty, wanted.names.count + new.count <= DevelopmentCA.nameLimit else { return false }
            wanted.names += new
            return true
        }
        if changed { watcher.withLock { $0 }?.wake() }
    }

    /// Starts the thread that keeps the certificates current. Call it once.
    ///
    /// - Parameters:
    ///   - onChange: called on that thread with each new snapshot, which already is the current one: build TLS contexts
    ///     here.
    ///   - onProblem: called on that thread once for each new problem.
    package func watch(
        onChange: @escaping @Sendable (CertificateSnapshot) -> Void,
        onProblem: @escaping @Sendable (CertificatesError) -> Void
    ) {
        let thread = PollingThread(name: "certificates", intervalMilliseconds: Self.interval) { [weak self] in
            self?.reload(onChange: onChange, onProblem: onProblem)
        }
        watcher.withLock { watcher in
            precondition(watcher == nil, "certificates are watched once")
            watcher = thread
        }
    }

    package func stop() {
        watcher.withLock { $0 }?.stop()
    }

    /// Looks once whether anything changed. Blocking; the watching thread calls it.
    package func reload(
        now: Date = Date(),
        onChange: (CertificateSnapshot) -> Void = { _ in },
        onProblem: (CertificatesError) -> Void = { _ in }
    ) {
        let (snapshot, problems) = origin.withLock { origin in
            switch origin {
            case .files(var entries):
                let (changed, problems) = Self.reload(&entries)
                origin = .files(entries)
                return (changed ? CertificateSnapshot(entries.map(\.certificate)) : nil, problems)
            case .development(let authority):
                let (renewed, problem) = renew(authority, now: now)
                guard let renewed else { return (nil, problem.map { [$0] } ?? []) }
                origin = .development(renewed)
                return (CertificateSnapshot([renewed.leaf]), [])
            }
        }
        if let snapshot {
            current.withLock { $0 = snapshot }
            onChange(snapshot)
        }
        problems.forEach(onProblem)
    }

    private static func reload(_ entries: inout [FileEntry]) -> (changed: Bool, problems: [CertificatesError]) {
        var changed = false
        var problems: [CertificatesError] = []
        for index in entries.indices {
            do {
                let contents = try entries[index].files.read()
                guard contents != entries[index].contents || entries[index].problem != nil else { continue }
                let certificate = try entries[index].files.parse(contents)
                changed =
                    changed || certificate.leafSHA256 != entries[index].certificate.leafSHA256
                    || certificate.chainPEM != entries[index].certificate.chainPEM
                entries[index].contents = contents
                entries[index].certificate = certificate
                entries[index].problem = nil
            } catch {
                if entries[index].problem != error { problems.append(error) }
                entries[index].problem = error
            }
        }
        return (changed, problems)
    }

    private func renew(_ authority: DevelopmentCA, now: Date) -> (DevelopmentCA?, CertificatesError?) {
        let names = wanted.withLock { $0.names }
        do {
            let renewed = try authority.renewed(covering: names, now: now)
            wanted.withLock { $0.problem = nil }
            return (renewed.leaf === authority.leaf ? nil : renewed, nil)
        } catch {
            let known = wanted.withLock { wanted in
                defer { wanted.problem = error }
                return wanted.problem == error
            }
            return (nil, known ? nil : error)
        }
    }
}
