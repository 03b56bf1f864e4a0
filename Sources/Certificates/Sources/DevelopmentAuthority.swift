import FoundationEssentials
import Store
import Synchronization

/// The development CA as one process uses it: the root of the store, and its own leaf.
final class DevelopmentAuthority: Sendable {
    /// More names than a leaf may have: some of them are covered by other certificates.
    private static let requestedLimit = 4_096

    private struct State {
        var root: DevelopmentRoot?
        var leaf: ServerCertificate?
        var requested: [String]
        var known: Set<String>
        var problem: CertificatesError?
        var needsReload = false
    }

    private let store: any Store
    private let state: Mutex<State>

    init(store: any Store, names: [String]) {
        self.store = store
        state = Mutex(State(requested: names, known: Set(names)))
    }

    var root: DevelopmentRoot? { state.withLock { $0.root } }

    var status: CertificateStatus? {
        state.withLock { state in
            guard state.root != nil || state.problem != nil else { return nil }
            return CertificateStatus(
                source: .development,
                place: CertificateSet.developmentCA.path,
                generation: state.root?.generation,
                origin: DevelopmentRoot.origin,
                certificate: state.root?.pair,
                problem: state.problem
            )
        }
    }

    /// Asks for names in the leaf. Returns whether there is a new one among them.
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

    /// Reads or makes the root.
    func obtain(now: Date) async throws(CertificatesError) {
        do throws(CertificatesError) {
            adopt(try await DevelopmentRoot.obtain(in: store, now: now))
        } catch {
            state.withLock { $0.problem = error }
            throw error
        }
    }

    /// Reads the root anew after it changed in the store: a backup was restored, or it was removed and made again.
    /// Returns whether there is another one. One that cannot be read or used keeps the one before.
    func reload() async -> Bool {
        state.withLock { $0.needsReload = true }
        do throws(CertificatesError) {
            let found = try await DevelopmentRoot.read(in: store)
            state.withLock { $0.needsReload = false }
            return found.map { adopt($0) } ?? false
        } catch {
            guard case .malformed = error.code else { return false }
            return state.withLock { state in
                defer { state.problem = error }
                return state.problem != error
            }
        }
    }

    /// A change of the root could not be read yet.
    var needsReload: Bool { state.withLock { $0.needsReload } }

    @discardableResult
    private func adopt(_ root: DevelopmentRoot) -> Bool {
        state.withLock { state in
            state.problem = nil
            guard root.generation > state.root?.generation ?? Generation(epoch: 0, counter: 0) else { return false }
            if state.root?.fingerprint != root.fingerprint { state.leaf = nil }
            state.root = root
            return true
        }
    }

    // MARK: The leaf

    /// Less than a third of the leaf's life is left.
    func needsRenewal(now: Date) -> Bool {
        guard let leaf = state.withLock({ $0.leaf }) else { return false }
        return !DevelopmentLeaf.isFresh(leaf, now: now)
    }

    /// The leaf for the names that no other certificate covers; issued again when they changed or it is worn.
    ///
    /// - Parameter others: what the other sources serve; nil: nothing.
    /// - Returns: nil while there is no root.
    func leaf(excluding others: CertificateSnapshot?, now: Date) -> ServerCertificate? {
        let (root, requested, current) = state.withLock { ($0.root, $0.requested, $0.leaf) }
        guard let root else { return nil }
        let names = DevelopmentLeaf.names(requested) { others?.certificate(for: $0) != nil }
        if let current, Set(current.names) == Set(names), DevelopmentLeaf.isFresh(current, now: now) { return current }
        do throws(CertificatesError) {
            let leaf = try DevelopmentLeaf.issue(names, by: root, now: now)
            state.withLock { state in
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
