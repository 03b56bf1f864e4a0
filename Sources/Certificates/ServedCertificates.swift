package import ACME
package import FoundationEssentials
import NIOCore
package import Store
import Synchronization

/// The certificates that this process serves, to browsers and agents alike: the one place that holds the current ones.
///
/// Three sources are mixed name by name; of several for one name the strongest is served:
///
/// 1. files and secret mounts that the configuration names,
/// 2. certificates in the store (`certs/<key>`),
/// 3. the development CA, for names that nothing else covers.
///
/// Look-ups read an immutable ``CertificateSnapshot`` that is swapped as a whole; no handshake waits for a file or for the
/// store. What cannot be read or does not fit keeps the last good certificate. The owner runs
/// ``run(onChange:onProblem:)``, which brings every change into the snapshot within two seconds.
package final class ServedCertificates: Sendable {
    package struct Settings: Sendable {
        package var files: [CertificateFiles]
        package var usesDevelopmentCA: Bool
        /// Names that the development CA covers beside this machine's own and those that agents bring.
        package var names: [String]
        package var check: CertificateCheck

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

    /// How long a start may read certificates from the store; what is left is read while the gateway runs.
    private static let loadTime = TimeAmount.seconds(10)

    let store: any Store
    let configured: ConfiguredCertificates
    let stored: StoredCertificates
    /// Nil: the development CA is off.
    let development: DevelopmentAuthority?
    /// Something may have changed: the snapshot is made anew.
    let changed = Signal()
    /// There is something to read in the store.
    let pending = Signal()
    private let current = Mutex(Current())

    private struct Current {
        var snapshot: CertificateSnapshot?
        /// Without the development leaf, and what it was made of.
        var others: CertificateSnapshot?
        /// By place; told already.
        var reported: [String: CertificatesError] = [:]
    }

    private init(_ settings: Settings, store: any Store) {
        self.store = store
        configured = ConfiguredCertificates(settings.files, check: settings.check)
        stored = StoredCertificates(store: store, check: settings.check)
        development = settings.usesDevelopmentCA ? DevelopmentAuthority(store: store, names: settings.names) : nil
    }

    // MARK: Opening

    /// Reads every source once, and makes the development root if it is needed and not there.
    ///
    /// - Throws: for a file that cannot be used, and when there is no certificate at all. A store that does not answer is
    ///   a reason only where nothing else is left to serve.
    package static func open(
        _ settings: Settings,
        store: any Store,
        now: Date = Date()
    ) async throws(CertificatesError) -> ServedCertificates {
        let served = ServedCertificates(settings, store: store)
        _ = served.configured.reload()
        if let problem = served.configured.problem { throw problem }
        var trouble: CertificatesError?
        do throws(StoreError) {
            try await served.stored.load(until: .now() + loadTime)
        } catch {
            trouble = CertificatesError(error)
        }
        do throws(CertificatesError) {
            try await served.development?.obtain(now: now)
        } catch {
            trouble = error
        }
        served.rebuild(now: now)
        guard served.current.withLock({ $0.snapshot != nil }) else { throw trouble ?? nothing }
        return served
    }

    /// Reads every source once, for a command line: what is wrong is told by ``statuses``. Makes nothing.
    package static func inspect(
        _ settings: Settings,
        store: any Store,
        now: Date = Date()
    ) async throws(CertificatesError) -> ServedCertificates {
        let served = ServedCertificates(settings, store: store)
        _ = served.configured.reload()
        do throws(StoreError) {
            try await served.stored.load(until: .distantFuture)
        } catch {
            throw CertificatesError(error)
        }
        _ = await served.development?.reload()
        served.rebuild(now: now)
        return served
    }

    private static let nothing = CertificatesError(
        .missing,
        "certificates",
        """
        there is no certificate: none is configured, the store has none, and the development CA is off; name files under \
        "certificates", import one with "hopgate cert import", or set "development_ca: auto"
        """
    )

    // MARK: What is served

    /// Only for an opened one: it has certificates from then on, whatever becomes of the sources.
    package var snapshot: CertificateSnapshot {
        guard let snapshot = current.withLock({ $0.snapshot }) else {
            preconditionFailure("an opened gateway has a certificate")
        }
        return snapshot
    }

    /// What files and the store have for this name; the development CA is not asked.
    package func certificate(for name: CertificateName) -> ServerCertificate? {
        current.withLock { $0.others }?.certificate(for: name)
    }

    /// Whether another certificate than the one that the store keeps for this very name covers it: one of a file, or a
    /// wildcard's.
    package func isCoveredOtherwise(_ name: CertificateName) -> Bool {
        guard let covering = certificate(for: name) else { return false }
        return covering !== (try? name.storeKey).flatMap { stored.certificate(at: $0) }
    }

    /// The root of the development CA, if that is in use.
    package var developmentRoot: DevelopmentRoot? { development?.root }

    /// Every certificate of every source, the strongest source first.
    package var statuses: [CertificateStatus] {
        configured.statuses + stored.statuses + [development?.status].compactMap(\.self)
    }

    /// Asks for these names in the development leaf (hosts that agents serve); it is issued again off the caller's
    /// thread. Nothing happens when the development CA is off.
    package func cover(names: [String]) {
        if development?.addNames(names) == true { changed.send() }
    }

    /// The pin by which an agent that is given these hosts knows this gateway: the development root's if the development
    /// CA is what answers for every one of them, else nil. Without hosts: for whoever dials an address.
    package func tunnelPin(hosts: [String]) -> [UInt8]? {
        guard let root = developmentRoot else { return nil }
        guard let others = current.withLock({ $0.others }) else { return root.certificateSHA256 }
        guard !hosts.isEmpty else { return nil }
        let isDevelopment = hosts.allSatisfy { host in
            // A dialled address is in no hello: the fallback answers, and that is another's.
            guard let name = CertificateName(host), case .dns = name else { return false }
            return others.certificate(for: name) == nil
        }
        return isDevelopment ? root.certificateSHA256 : nil
    }

    // MARK: The snapshot

    /// Makes the snapshot of what the sources have now. One caller at a time.
    ///
    /// - Returns: the snapshot if it is another one than before, and problems that are new.
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
        let all = sources + [development?.leaf(excluding: others, now: now)].compactMap(\.self)
        let problems = statuses.filter { $0.problem != nil }
        return current.withLock { current in
            let new = problems.filter { current.reported[$0.place] != $0.problem }.compactMap(\.problem)
            current.reported = Dictionary(problems.map { ($0.place, $0.problem!) }) { first, _ in first }
            current.others = others
            // The last certificate of all stays: a stale one is better than none.
            guard !all.isEmpty, current.snapshot?.certificates.elementsEqual(all, by: ===) != true else {
                return (nil, new)
            }
            let snapshot = CertificateSnapshot(all)
            current.snapshot = snapshot
            return (snapshot, new)
        }
    }
}
