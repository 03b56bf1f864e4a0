package import ACME
package import FoundationEssentials
package import NIOCore
package import Store
import Synchronization
import Threads

/// The certificates that this process serves to browsers and agents, from all sources.
///
/// Three sources are merged by name. If several have a certificate for one name, the first of these is served:
///
/// 1. files and mounted secrets that the configuration names,
/// 2. certificates in the store (`certs/<key>`),
/// 3. the development CA, for names that no other source covers.
///
/// Look-ups read an immutable ``CertificateSnapshot`` that is replaced as a whole; no handshake waits for a file or for
/// the store. If a new certificate cannot be read or is not valid, the last good one stays. The owner runs
/// ``run(onChange:onProblem:)``, which applies every change within two seconds.
package final class ServedCertificates: Sendable {
    package struct Settings: Sendable {
        package var files: [CertificateFiles]
        package var usesDevelopmentCA: Bool
        /// The names that the development CA covers in addition to this machine's own and those that agents serve.
        package var names: [String]
        package var check: CertificateCheck
        /// The time without any answer of the store after which a start continues without the rest, and the time for
        /// all earlier versions of certificates that cannot be used.
        package var patience = TimeAmount.seconds(10)

        package init(
            files: [CertificateFiles],
            usesDevelopmentCA: Bool,
            names: [String] = [],
            check: @escaping CertificateCheck = { _ in }
        ) {
            self.files = files
            self.usesDevelopmentCA = usesDevelopmentCA
            self.names = names
            self.check = check
        }
    }

    let configured: ConfiguredCertificates
    let stored: StoredCertificates
    /// The development CA, or `nil` if it is off.
    let development: DevelopmentAuthority?
    /// Signals that the snapshot may have to be rebuilt.
    let changed = AsyncSignal()
    private let current = Mutex(Current())

    private struct Current {
        var snapshot: CertificateSnapshot?
        /// The snapshot without the development leaf, with the certificates it was built from.
        var others: CertificateSnapshot?
        /// The problems that were reported, by place.
        var reported: [String: CertificatesError] = [:]
        var storeObserver: (@Sendable ([String]) -> Void)?
    }

    private init(_ settings: Settings, _ set: CertificateSet) {
        configured = ConfiguredCertificates(settings.files, check: settings.check)
        stored = StoredCertificates(set, check: settings.check, patience: settings.patience)
        development = settings.usesDevelopmentCA ? DevelopmentAuthority(set, names: settings.names) : nil
    }

    // MARK: Opening

    /// Reads every source once, and creates the development root if it is needed and missing. All certificates of a
    /// store that works are read when this returns.
    ///
    /// - Throws: If a configured file cannot be used, or if there is no certificate at all. A store that does not
    ///   respond is an error only if no other source has a certificate.
    package static func open(
        _ settings: Settings,
        store set: CertificateSet,
        now: Date = Date()
    ) async throws(CertificatesError) -> ServedCertificates {
        let served = ServedCertificates(settings, set)
        _ = served.configured.reload()
        if let problem = served.configured.problem { throw problem }
        var failure: CertificatesError?
        do throws(StoreError) {
            try await served.watchStore(now: now)
        } catch {
            failure = CertificatesError(error)
        }
        do throws(CertificatesError) {
            try await served.development?.obtain(now: now)
        } catch {
            failure = error
        }
        served.rebuild(now: now)
        // The run reports the problems of the start.
        served.current.withLock { $0.reported = [:] }
        guard served.current.withLock({ $0.snapshot != nil }) else { throw failure ?? nothing }
        return served
    }

    /// Reads every source once for a command, without creating anything. Problems are in ``statuses``.
    package static func inspect(
        _ settings: Settings,
        store set: CertificateSet,
        now: Date = Date()
    ) async throws(CertificatesError) -> ServedCertificates {
        let served = ServedCertificates(settings, set)
        _ = served.configured.reload()
        do throws(StoreError) {
            try await served.watchStore(now: now)
        } catch {
            throw CertificatesError(error)
        }
        _ = await served.development?.reload()
        served.rebuild(now: now)
        return served
    }

    /// Reads the certificate that is stored under a key, for a command that asks for one name. No other certificate of
    /// the store is read.
    ///
    /// - Returns: The status, or `nil` if the certificate does not have the name or a configured file does: then every
    ///   source has to be read. In the place of a version that cannot be used it is the one that gateways serve.
    package static func inspect(
        _ key: StoreKey,
        for name: CertificateName,
        _ settings: Settings,
        store set: CertificateSet,
        now: Date = Date()
    ) async throws(CertificatesError) -> CertificateStatus? {
        let configured = ConfiguredCertificates(settings.files, check: settings.check)
        _ = configured.reload()
        guard !configured.certificates.contains(where: { $0.names.contains(name) }) else { return nil }
        var finding: CertificateSet.Finding
        do throws(StoreError) {
            finding = try await set.read(key, check: settings.check)
        } catch {
            finding = CertificateSet.Finding(rejection: CertificatesError(error))
        }
        if let problem = finding.rejection {
            if let served = try? await set.earlier(key, now: now, within: .seconds(10), check: settings.check),
                let version = served.version
            {
                finding = served
                finding.rejection = problem.serving(version: version)
            } else if finding.version == nil {
                throw problem
            }
        }
        guard finding.rejection != nil || finding.certificate?.names.contains(name) == true else { return nil }
        return finding.status(key.path)
    }

    private func watchStore(now: Date) async throws(StoreError) {
        let (changed, development) = (changed, development)
        try await stored.open(now: now) { [weak self] names in
            if names.contains(CertificateSet.developmentCA.name) { development?.requestReload() }
            changed.send()
            self?.current.withLock { $0.storeObserver }?(names)
        }
    }

    /// Sets a closure that is called, on any thread, with the names of keys whose certificate in the store has changed.
    package func onStoreChange(_ body: @escaping @Sendable ([String]) -> Void) {
        current.withLock { $0.storeObserver = body }
    }

    /// The error that no source has a certificate.
    package static let nothing = CertificatesError(
        .missing,
        "certificates",
        """
        there is no certificate: none is configured, the store has none, and the development CA is off; name files under \
        "certificates", import one with "hopgate cert import", or set "development_ca: auto"
        """
    )

    /// Verifies that a start with the same sources has a certificate to serve.
    package func requireAny() throws(CertificatesError) {
        guard current.withLock({ $0.snapshot == nil }) else { return }
        guard let development else { throw Self.nothing }
        // Without a problem the root is missing, and a start creates it.
        if let problem = development.status?.problem { throw problem }
    }

    // MARK: What is served

    /// The current snapshot. An opened instance always has one, even if every source fails.
    package var snapshot: CertificateSnapshot {
        guard let snapshot = current.withLock({ $0.snapshot }) else {
            preconditionFailure("an opened gateway has a certificate")
        }
        return snapshot
    }

    /// Returns the certificate for a name from files or the store, but not from the development CA.
    package func certificate(for name: CertificateName) -> ServerCertificate? {
        current.withLock { $0.others }?.certificate(for: name)
    }

    /// Whether a browser that requests this name, or an agent that connects to this address, finds it in the
    /// certificate that it is served, which may be that of the development CA.
    package func covers(_ name: CertificateName) -> Bool {
        guard let snapshot = current.withLock({ $0.snapshot }) else { return false }
        return snapshot.certificate(for: name) != nil || snapshot.forAddresses.names.contains(name)
    }

    /// The certificate that covers a name.
    package enum Coverage: Equatable, Sendable {
        /// None but that of the development CA.
        case none
        /// The one that is stored under the name.
        case own
        /// One from a file, or one of another name, such as a wildcard.
        case other
    }

    package func coverage(of name: CertificateName) -> Coverage {
        guard let covering = certificate(for: name) else { return .none }
        return covering === (try? name.storeKey).flatMap { stored.certificate(at: $0) } ? .own : .other
    }

    /// The root of the development CA, if it is in use.
    package var developmentRoot: DevelopmentRoot? { development?.root }

    /// The status of every certificate, in the order of precedence of the sources.
    package var statuses: [CertificateStatus] {
        configured.statuses + stored.statuses + [development?.status].compactMap(\.self)
    }

    /// Adds names to the development leaf, for hosts that agents serve. The leaf is issued again off the caller's
    /// thread. Has no effect if the development CA is off.
    package func cover(names: [String]) {
        if development?.addNames(names) == true { changed.send() }
    }

    /// Returns the pin by which an agent with these gateway hosts identifies this gateway: the development root's if
    /// the development CA serves every one of them, otherwise `nil`. Agents that connect to an address are always
    /// served by it.
    package func tunnelPin(hosts: [String]) -> [UInt8]? {
        guard let root = developmentRoot else { return nil }
        let others = current.withLock { $0.others }
        let isDevelopment = hosts.allSatisfy { host in
            guard let name = CertificateName(host), case .dns = name else { return true }
            return others?.certificate(for: name) == nil
        }
        return isDevelopment ? root.certificateSHA256 : nil
    }

    // MARK: The snapshot

    /// Builds the snapshot from the present certificates of the sources. Calls must not overlap.
    ///
    /// - Returns: The snapshot if it has changed, and the new problems.
    @discardableResult
    package func rebuild(now: Date = Date()) -> (snapshot: CertificateSnapshot?, problems: [CertificatesError]) {
        let sources = configured.certificates + stored.certificates
        let before = current.withLock { $0.others }
        let others: CertificateSnapshot? =
            if let before, before.certificates.elementsEqual(sources, by: ===) {
                before
            } else {
                sources.isEmpty ? nil : CertificateSnapshot(sources)
            }
        let leaf = development?.leaf(excluding: others, now: now)
        let all = sources + [leaf].compactMap(\.self)
        let problems = statuses.filter { $0.problem != nil }
        return current.withLock { current in
            let new = problems.filter { current.reported[$0.place] != $0.problem }.compactMap(\.problem)
            current.reported = Dictionary(problems.map { ($0.place, $0.problem!) }) { first, _ in first }
            current.others = others
            // The last certificate of all stays: a stale one is better than none.
            guard !all.isEmpty, current.snapshot?.certificates.elementsEqual(all, by: ===) != true else {
                return (nil, new)
            }
            let snapshot = CertificateSnapshot(sources, development: leaf)
            // Certificates that were read again are other objects with the same content.
            let isSame = current.snapshot?.certificates.elementsEqual(all) { $0.isSame(as: $1) } ?? false
            current.snapshot = snapshot
            return (isSame ? nil : snapshot, new)
        }
    }
}
