import Store

/// Seals credentials with the key that signs now, each as its next version; the credentials themselves do not change.
struct CredentialResealing: Sendable {
    struct Result: Sendable {
        var count = 0
        /// Those that cannot be sealed anew, and why.
        var skipped: [(key: StoreKey, problem: String)] = []
    }

    let store: VolumeStore
    let keyring: ClusterKeyring

    private enum Outcome {
        case fine
        case resealed
        case changed
        case skipped(String)
    }

    /// Goes through all of them until a pass meets none that was changed by somebody else meanwhile.
    func run() async throws(StoreError) -> Result {
        var result = Result()
        var left = try await store.list("agents")
        for _ in 0..<16 {
            var again: [StoreKey] = []
            for key in left {
                switch try await reseal(key) {
                case .fine: break
                case .resealed: result.count += 1
                case .changed: again.append(key)
                case .skipped(let problem): result.skipped.append((key, problem))
                }
            }
            guard !again.isEmpty else { return result }
            left = again
        }
        throw StoreError(.busy, store.volume.files.root, "credentials change all the time; run this again")
    }

    private func reseal(_ key: StoreKey) async throws(StoreError) -> Outcome {
        do {
            let value = try await store.read(key)
            guard SealedDocument.keyID(value.bytes) != keyring.signing.id else { return .fine }
            let body = try SealedDocument.open(
                value.bytes,
                .credential,
                context: "\(key)/\(value.version)",
                with: keyring,
                place: "\(key)/\(value.version)"
            )
            let sealed = SealedDocument.seal(
                body,
                .credential,
                context: "\(key)/\(value.version + 1)",
                with: keyring.signing
            )
            _ = try await store.replace(key, expecting: value.version, sealed)
            return .resealed
        } catch {
            switch error.code {
            case .notFound: return .fine
            case .conflict, .exists, .unconfirmed: return .changed
            case .corrupt, .foreign, .refused, .tooLarge, .badName: return .skipped(error.description)
            default: throw error
            }
        }
    }
}
