import NIOCore
import Store

/// The certificates of the store as this process last read them: the last good one of each, also while the store
/// fails.
final class StoredCertificates: Sendable {
    /// The time without any answer of the store after which a start continues without the rest.
    private static let patience = TimeAmount.seconds(10)

    private let set: CertificateSet
    private let values: WatchedValues<CertificateSet.Finding, CertificatesError>

    init(_ set: CertificateSet, check: @escaping CertificateCheck) {
        self.set = set
        values = WatchedValues { key, stored in
            switch stored {
            case .failure(let error): .failure(CertificatesError(error))
            case .success(let stored):
                set.finding(stored, at: key, check: key == CertificateSet.developmentCA ? { _ in } : check).usable
            }
        }
    }

    /// Begins to watch the store, and returns when every certificate was read once.
    ///
    /// - Parameter onChange: Called after certificates have changed, with the names of their keys, on any thread.
    /// - Throws: If the store does not answer. What it delivers later is used nevertheless.
    func open(onChange: @escaping @Sendable ([String]) -> Void) async throws(StoreError) {
        values.watch(set.store, .below(CertificateSet.prefix)) { changes in onChange(changes.map(\.name)) }
        try await values.waitUntilComplete(patience: Self.patience)
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
            return CertificateStatus(
                source: .store,
                place: "\(CertificateSet.prefix)/\(name)",
                version: entry.value?.version,
                origin: entry.value?.origin,
                authority: entry.value?.authority,
                certificate: entry.value?.certificate,
                problem: entry.problem
            )
        }
    }
}
