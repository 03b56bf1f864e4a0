import Store

/// Seals credentials and certificates with the current signing key, each as its next version. The documents themselves
/// do not change.
struct Resealing: Sendable {
    struct Result: Sendable {
        /// The number of documents that were sealed again.
        var count = 0
        /// The documents that could not be sealed again, and the reasons.
        var skipped: [(key: StoreKey, problem: StoreError)] = []
    }

    let store: any Store
    let keyring: ClusterKeyring

    private enum Outcome {
        case upToDate
        case resealed
        /// Another process changed the document at the same time.
        case conflict
        case skipped(StoreError)
    }

    /// Seals all documents, and retries those that another process changed meanwhile.
    func run() async throws(StoreError) -> Result {
        var result = Result()
        var left = try await store.list(StoreLayout.credentials) + store.list(StoreLayout.certificates)
        for _ in 0..<16 {
            var again: [StoreKey] = []
            for key in left {
                switch try await reseal(key) {
                case .upToDate: break
                case .resealed: result.count += 1
                case .conflict: again.append(key)
                case .skipped(let problem): result.skipped.append((key, problem))
                }
            }
            guard !again.isEmpty else { return result }
            left = again
        }
        throw StoreError(
            .busy,
            store.diagnostics.path,
            "credentials or certificates are changed concurrently; run this again"
        )
    }

    private func reseal(_ key: StoreKey) async throws(StoreError) -> Outcome {
        do {
            let value = try await store.read(key)
            guard SealedDocument.keyID(value.bytes) != keyring.signing.id else { return .upToDate }
            let body = try SealedDocument.open(value, at: key, with: keyring)
            let sealed = SealedDocument.seal(body, at: key, version: value.version + 1, with: keyring.signing)
            try await store.write(key, .replace(value.version, sealed))
            return .resealed
        } catch {
            switch error.code {
            case .notFound: return .upToDate
            case _ where error.isConflict: return .conflict
            case .corrupt, .foreign, .newerFormat, .refused, .tooLarge, .badName: return .skipped(error)
            default: throw error
            }
        }
    }
}
