import FoundationEssentials
import NIOCore
import Store

/// The certificates of the store as this process last read them: the last good one of each, also while the store
/// fails.
final class StoredCertificates: Sendable {
    /// The number of concurrent reads of earlier versions.
    private static let readers = 8

    private let set: CertificateSet
    private let check: CertificateCheck
    private let patience: TimeAmount
    private let values: WatchedValues<CertificateSet.Finding, CertificatesError>

    init(_ set: CertificateSet, check: @escaping CertificateCheck, patience: TimeAmount) {
        self.set = set
        self.patience = patience
        self.check = check
        values = WatchedValues { key, stored in
            switch stored {
            case .failure(let error): .failure(CertificatesError(error))
            case .success(let stored):
                set.finding(stored, at: key, check: key == CertificateSet.developmentCA ? { _ in } : check).usable
            }
        }
    }

    /// Begins to watch the store, and returns when every certificate was read once. In the place of one that cannot be
    /// used the newest earlier version is served that the store has kept, if it is valid.
    ///
    /// - Parameter now: The wall clock.
    /// - Parameter onChange: Called after certificates have changed, with the names of their keys, on any thread.
    /// - Throws: If the store does not answer. What it delivers later is used nevertheless.
    func open(now: Date, onChange: @escaping @Sendable ([String]) -> Void) async throws(StoreError) {
        values.watch(set.store, .below(CertificateSet.prefix)) { changes in onChange(changes.map(\.name)) }
        try await values.waitUntilComplete(patience: patience)
        let unusable = entries.compactMap { name, entry in
            entry.value == nil ? entry.problem.map { (name: name, problem: $0) } : nil
        }
        let deadline = NIODeadline.now() + patience
        await withDiscardingTaskGroup { group in
            for first in 0..<min(Self.readers, unusable.count) {
                group.addTask {
                    for index in stride(from: first, to: unusable.count, by: Self.readers) {
                        let (name, problem) = unusable[index]
                        await self.readEarlier(name, insteadOf: problem, validAt: now, until: deadline)
                    }
                }
            }
        }
    }

    private func readEarlier(
        _ name: String,
        insteadOf problem: CertificatesError,
        validAt now: Date,
        until deadline: NIODeadline
    ) async {
        let left = deadline - .now()
        guard left > .zero, let key = try? CertificateSet.prefix.child(name),
            let found = try? await set.earlier(key, now: now, within: left, check: check), let version = found.version
        else { return }
        values.insert(name, version: version, found, insteadOf: problem)
    }

    /// All certificates but the root of the development CA, in the order of their keys.
    private var entries: [(key: String, value: WatchedValues<CertificateSet.Finding, CertificatesError>.Entry)] {
        values.entries.filter { $0.key != CertificateSet.developmentCA.name }.sorted { $0.key < $1.key }
    }

    var certificates: [ServerCertificate] { entries.compactMap(\.value.value?.certificate) }

    func certificate(at key: StoreKey) -> ServerCertificate? { values[key.name]?.certificate }

    var statuses: [CertificateStatus] {
        entries.compactMap { name, entry in
            guard entry.value != nil || entry.problem != nil else { return nil }
            var finding = entry.value ?? CertificateSet.Finding()
            finding.rejection = entry.problem.map { problem in
                entry.value == nil ? problem : problem.serving(version: entry.version)
            }
            return finding.status("\(CertificateSet.prefix)/\(name)")
        }
    }
}
