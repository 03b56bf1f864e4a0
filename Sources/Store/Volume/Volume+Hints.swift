import Synchronization

/// Hints that a key below a prefix changed: small numbered files in `PREFIX/.changes`, each with the name of a key.
///
/// Hints only make watchers faster where thousands of folders cannot be listed every second. A hint may be lost in a
/// crash or never be written, so every watch also inspects all keys from time to time.
extension Volume {
    /// The prefixes that no process watches.
    private static let unwatched: Set<StoreKey> = ["acme/accounts", "acme/on-demand", "acme/orders"]
    /// The number of hints that are kept.
    static let hintsKept: UInt64 = 64

    static func hints(_ prefix: String) -> String { "\(prefix)/.changes" }

    /// Writes a hint that a key changed. Failures are ignored.
    func writeHint(for key: StoreKey) {
        guard let parent = key.parent, !Self.unwatched.contains(parent) else { return }
        let prefix = parent.path
        let folder = Self.hints(prefix)
        let bytes = Array("\(key.name)\n\(nonce())\n".utf8)
        for _ in 0..<Self.attempts {
            do throws(StoreError) {
                let numbers = try hintNumbers(prefix)
                // Only a hint that was put there by hand has the greatest number. Watches inspect all keys when the
                // count starts again.
                guard numbers.last != StoreNumber.greatest else {
                    for number in numbers { unlink("\(folder)/\(number)") }
                    continue
                }
                let mine = (numbers.last ?? 0) + 1
                guard try create("\(folder)/\(mine)", bytes, durable: false) else { continue }
                for number in numbers where mine - number >= Self.hintsKept {
                    unlink("\(folder)/\(number)")
                }
                return
            } catch {
                guard error.code == .notFound else { return }
                // Another process may create the folder at the same time, so only the next attempt shows whether it is
                // there.
                try? files.makeFolder(folder)
            }
        }
    }

    /// Returns the numbers of the hints in rising order; empty if there never was one.
    package func hintNumbers(_ prefix: String) throws(StoreError) -> [UInt64] {
        do {
            return try names(in: Self.hints(prefix), fresh: true).compactMap { StoreNumber.parse(name: $0) }.sorted()
        } catch {
            guard error.code == .notFound else {
                recordRefusal(error)
                throw error
            }
            return []
        }
    }

    private func recordRefusal(_ error: StoreError) {
        guard !error.isTransient, error.code != .notFound else { return }
        refusedHint.withLock { $0 = error }
    }

    /// Returns the name of the key that changed, or `nil` if the hint cannot be read.
    package func hint(_ prefix: String, _ number: UInt64) -> String? {
        let bytes: [UInt8]
        do {
            bytes = try readFile("\(Self.hints(prefix))/\(number)", limit: 512)
        } catch {
            recordRefusal(error)
            return nil
        }
        guard let line = bytes.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        let name = String(decoding: bytes[..<line], as: UTF8.self)
        return StoreKey.isComponent(name) ? name : nil
    }
}
