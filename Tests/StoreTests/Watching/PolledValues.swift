import NIOCore
import Store

/// The watch that ships, polled by the thread of a test: a ``PrefixWatch`` whose values are kept by ``WatchedValues``.
final class PolledValues {
    let watch: PrefixWatch
    let values: WatchedValues<StoredValue, StoreError>

    init(
        volume: Volume,
        prefix: StoreKey,
        check: @escaping @Sendable (StoreKey, StoredValue) throws(StoreError) -> Void = { _, _ in }
    ) {
        watch = PrefixWatch(volume: volume, scope: .below(prefix))
        values = WatchedValues { key, stored in
            do throws(StoreError) {
                let stored = try stored.get()
                try check(key, stored)
                return .success(stored)
            } catch {
                return .failure(error)
            }
        }
    }

    /// The usable values.
    var current: [String: StoredValue] { values.entries.compactMapValues(\.value) }

    /// The problems of values and of the volume.
    var problems: [String: StoreError] {
        let ofVolume = watch.problems.map { ($0.key.name, $0.value) }
        return values.entries.compactMapValues(\.problem).merging(ofVolume) { first, _ in first }
    }

    /// Polls once, and reads all that is due.
    func poll() throws(StoreError) {
        watch.poll()
        while let part = watch.nextPart() {
            if let findings = part.read() { deliver(watch.record(findings, of: part)) }
        }
        if let failure = watch.failure { throw failure }
    }

    private func deliver(_ changes: [WatchedChange]) {
        watch.finish(changes, rejecting: values.receive(WatchBatch(changes: changes)))
    }
}
