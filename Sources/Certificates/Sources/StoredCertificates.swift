import NIOCore
import Store
import Synchronization

/// A change of a key's newest version or generation.
struct StoreChange {
    enum Revision {
        case version
        case generation(Generation)
    }

    let key: StoreKey
    /// The newest revision, or `nil` if the key's folder is gone.
    let newest: Revision?
}

extension StoreChange {
    init(_ change: WatchedChange) {
        key = change.key
        newest =
            switch change.content {
            case .generation(let generation): .generation(generation)
            case .removed(version: nil): nil
            case .removed, .value, .unreadable: .version
            }
    }
}

/// The certificates of the store as this process last read them: the last good one of each, also while the store
/// fails.
final class StoredCertificates: Sendable {
    private struct Entry {
        /// The last generation that was read and usable.
        var generation: Generation?
        /// The certificate, or `nil` if it was removed or there never was a good one.
        var certificate: ServerCertificate?
        var origin: String?
        var authority: String?
        var problem: CertificatesError?
    }

    private struct State {
        var entries: [StoreKey: Entry] = [:]
        /// The keys that have to be read, each with the newest change that the watch reported.
        var pending: [StoreKey: StoreChange] = [:]
    }

    private let store: any Store
    private let check: CertificateCheck
    private let state = Mutex(State())

    init(store: any Store, check: @escaping CertificateCheck) {
        self.store = store
        self.check = check
    }

    /// The certificates in the order of their keys.
    var certificates: [ServerCertificate] {
        state.withLock { state in
            state.entries.sorted { $0.key < $1.key }.compactMap(\.value.certificate)
        }
    }

    func certificate(at key: StoreKey) -> ServerCertificate? { state.withLock { $0.entries[key]?.certificate } }

    var statuses: [CertificateStatus] {
        let entries = state.withLock { $0.entries }.sorted { $0.key < $1.key }
        return entries.compactMap { key, entry in
            guard entry.certificate != nil || entry.problem != nil else { return nil }
            return CertificateStatus(
                source: .store,
                place: key.path,
                generation: entry.generation,
                origin: entry.origin,
                authority: entry.authority,
                certificate: entry.certificate,
                problem: entry.problem
            )
        }
    }

    // MARK: Reading

    /// Reads every key once. Those that are not read by the deadline are left to ``readPending()``.
    func load(until deadline: NIODeadline) async throws(StoreError) {
        let keys = try await store.list(CertificateSet.prefix)
        state.withLock { state in
            for key in keys where key != CertificateSet.developmentCA {
                state.pending[key] = StoreChange(key: key, newest: nil)
            }
        }
        while NIODeadline.now() < deadline, let change = next() {
            do throws(StoreError) {
                let top = try await CertificateSet.highestGeneration(change.key, in: store)
                try await read(StoreChange(key: change.key, newest: top.map { .generation($0) }))
            } catch {
                postpone(change)
                throw error
            }
        }
    }

    /// Adds changes that a watch of the store reported. Returns whether there is something to read.
    func enqueue(_ changes: [StoreChange]) -> Bool {
        state.withLock { state in
            for change in changes where change.key != CertificateSet.developmentCA {
                // The first batch of a watch repeats what was read at the start.
                if case .generation(let generation) = change.newest,
                    let entry = state.entries[change.key], entry.generation == generation
                {
                    continue
                }
                state.pending[change.key] = change
            }
            return !state.pending.isEmpty
        }
    }

    var hasPending: Bool { state.withLock { !$0.pending.isEmpty } }

    /// Reads the changed keys. What the store cannot answer now is read the next time.
    func readPending() async {
        var later: [StoreChange] = []
        while !Task.isCancelled, let change = next() {
            do throws(StoreError) {
                // Files may arrive late on a network file system, and their modes may be corrected.
                if try await read(change)?.code == .incomplete { later.append(change) }
            } catch {
                later.append(change)
                // An outage of the volume is its state, and not a problem of every certificate.
                if error.isTransient { break }
                state.withLock { $0.entries[change.key, default: Entry()].problem = CertificatesError(error) }
            }
        }
        for change in later { postpone(change) }
    }

    private func next() -> StoreChange? {
        state.withLock { state in
            state.pending.keys.min().flatMap { state.pending.removeValue(forKey: $0) }
        }
    }

    /// Puts a change back, unless the watch has reported a newer one meanwhile.
    private func postpone(_ change: StoreChange) {
        state.withLock { state in
            if state.pending[change.key] == nil { state.pending[change.key] = change }
        }
    }

    /// Reads one key. Returns the problem of its newest generation.
    @discardableResult
    private func read(_ change: StoreChange) async throws(StoreError) -> CertificatesError? {
        let key = change.key
        let finding = try await CertificateSet.newest(key, in: store, check: check)
        let problem = Self.problem(finding, key, newest: change.newest)
        // If all other keys are missing as well, the key was not deleted: another volume is mounted.
        let isOnly =
            change.newest == nil ? try await store.list(CertificateSet.prefix).filter { $0 != key }.isEmpty : false
        state.withLock { state in
            var entry = state.entries[key] ?? Entry()
            defer { state.entries[key] = entry }
            entry.problem = problem
            guard let found = finding.generation else {
                // The folder of the key was deleted by hand.
                if change.newest == nil, finding.rejection == nil, !isOnly { entry = Entry() }
                return
            }
            // A generation older than the known one is a stale response.
            guard found > entry.generation ?? Generation(epoch: 0, counter: 0) else { return }
            entry.generation = found
            entry.origin = finding.origin
            entry.authority = finding.authority
            guard !finding.isRemoved else {
                entry.certificate = nil
                return
            }
            if let new = finding.certificate, entry.certificate?.isSame(as: new) != true { entry.certificate = new }
        }
        return problem
    }

    private static func problem(
        _ finding: CertificateSet.Finding,
        _ key: StoreKey,
        newest: StoreChange.Revision?
    ) -> CertificatesError? {
        if let rejection = finding.rejection { return rejection }
        guard case .generation(let top) = newest, finding.generation.map({ $0 < top }) ?? true else { return nil }
        let files = [CertificateSet.chainFile, CertificateSet.keyFile, CertificateSet.metaFile].joined(separator: ", ")
        return CertificatesError(
            .incomplete,
            "\(key)/\(top)",
            "cannot be used; it has to hold \(files), private to this user; import the certificate again"
        )
    }
}
