import ACME
import FoundationEssentials
import Store
import Synchronization

/// The development CA of one process: the root in the store, and the process's own leaf.
final class DevelopmentAuthority: Sendable {
    /// The largest number of requested names. It exceeds that of a leaf, since other certificates may cover some of
    /// them.
    private static let requestedLimit = 4_096

    private struct State {
        var root: DevelopmentRoot?
        var leaf: ServerCertificate?
        var requested: [String]
        var known: Set<String>
        var problem: CertificatesError?
        var needsReload = false
    }

    private let set: CertificateSet
    private let state: Mutex<State>

    init(_ set: CertificateSet, names: [String]) {
        self.set = set
        state = Mutex(State(requested: names, known: Set(names)))
    }

    var root: DevelopmentRoot? { state.withLock { $0.root } }

    var status: CertificateStatus? {
        state.withLock { state in
            guard state.root != nil || state.problem != nil else { return nil }
            return CertificateStatus(
                source: .development,
                place: CertificateSet.developmentCA.path,
                version: state.root?.version,
                origin: DevelopmentRoot.origin,
                certificate: state.root?.pair,
                problem: state.problem
            )
        }
    }

    /// Adds names to the leaf. Returns whether one of them is new.
    func addNames(_ names: [String]) -> Bool {
        state.withLock { state in
            let before = state.requested.count
            for name in names where state.requested.count < Self.requestedLimit && state.known.insert(name).inserted {
                state.requested.append(name)
            }
            return state.requested.count > before
        }
    }

    // MARK: The root

    /// Reads the root, or creates it.
    func obtain(now: Date) async throws(CertificatesError) {
        do throws(CertificatesError) {
            adopt(try await DevelopmentRoot.obtain(in: set, now: now))
        } catch {
            state.withLock { $0.problem = error }
            throw error
        }
    }

    /// Reads the root again after it changed in the store, because a backup was restored or it was replaced. Returns
    /// whether it is a different one. If it cannot be read or used, the previous one stays.
    func reload() async -> Bool {
        // A change during the reading requests another one.
        state.withLock { $0.needsReload = false }
        do throws(CertificatesError) {
            return try await DevelopmentRoot.read(in: set).map { adopt($0) } ?? false
        } catch {
            if error.code != .malformed { requestReload() }
            // A store that does not answer is reported as such.
            if case .store(let code) = error.code, StoreError(code, "", "").isTransient { return false }
            return state.withLock { state in
                defer { state.problem = error }
                return state.problem != error
            }
        }
    }

    /// Records that the root has changed in the store.
    func requestReload() { state.withLock { $0.needsReload = true } }

    /// Whether a change of the root was not read yet.
    var needsReload: Bool { state.withLock { $0.needsReload } }

    @discardableResult
    private func adopt(_ root: DevelopmentRoot) -> Bool {
        state.withLock { state in
            state.problem = nil
            let isOther = state.root?.fingerprint != root.fingerprint
            if isOther { state.leaf = nil }
            state.root = root
            return isOther
        }
    }

    // MARK: The leaf

    /// Whether less than a third of the leaf's lifetime is left.
    func needsRenewal(now: Date) -> Bool {
        guard let leaf = state.withLock({ $0.leaf }) else { return false }
        return !DevelopmentLeaf.isFresh(leaf, now: now)
    }

    /// Returns the leaf for addresses and for the names that no other certificate covers. It is issued again if they
    /// have changed or it needs renewal.
    ///
    /// - Parameter others: The certificates of the other sources, or `nil` if there are none.
    /// - Returns: The leaf, or `nil` while there is no root.
    func leaf(excluding others: CertificateSnapshot?, now: Date) -> ServerCertificate? {
        let (root, requested, current) = state.withLock { ($0.root, $0.requested, $0.leaf) }
        guard let root else { return nil }
        let names = DevelopmentLeaf.names(requested) { name in
            guard case .dns = name else { return false }
            return others?.certificate(for: name) != nil
        }
        if let current, Set(current.names) == Set(names), DevelopmentLeaf.isFresh(current, now: now) { return current }
        do throws(CertificatesError) {
            let leaf = try DevelopmentLeaf.issue(names, by: root, now: now)
            state.withLock { state in
                // After another root was adopted the leaf is issued again.
                guard state.root?.fingerprint == root.fingerprint else { return }
                state.leaf = leaf
                if state.problem?.code == .issuance { state.problem = nil }
            }
            return leaf
        } catch {
            state.withLock { $0.problem = error }
            return current
        }
    }
}
