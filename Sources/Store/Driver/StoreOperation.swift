package import NIOCore
import Synchronization

/// The kinds of operation on a volume whose durations are reported.
package enum StoreOperation: String, CaseIterable, Sendable {
    case read
    case list
    /// Creating, replacing and removing values.
    case write
    /// Acquiring, renewing and checking a lease.
    case lease
    /// A heartbeat of this process's journal, written and read back.
    case heartbeat
}

/// The observations of a store about its own condition.
package struct StoreDiagnostics: Sendable {
    /// The folder of the store.
    package var path: String
    /// The time of the last heartbeat that was written and read back, or of the start.
    package var lastHeartbeat: NIODeadline
    /// The duration of the last round trip.
    package var roundTrip: TimeAmount?
    /// The last failure, or `nil` if the last round trip and write succeeded.
    package var failure: StoreError?
    /// The failure of a watch whose keys are not read, or `nil` if there is none.
    package var watchFailure: StoreError?
    /// The last failure of a hint that will not pass by itself, or `nil` if there was none. The changes that it stands
    /// for are found when all keys of its prefix are inspected.
    package var refusedHint: StoreError?
    package var counts = StoreCounts()
}

extension VolumeStore {
    package var diagnostics: StoreDiagnostics {
        StoreDiagnostics(
            path: volume.files.root,
            lastHeartbeat: health.lastHeartbeat,
            roundTrip: health.roundTrip,
            failure: health.failure,
            watchFailure: shared.withLock { $0.watches }.lazy.compactMap(\.failure).first { $0.code != .transient },
            refusedHint: volume.refusedHint.withLock { $0 },
            counts: volume.counts
        )
    }

    package func onOperation(_ body: @escaping @Sendable (StoreOperation, TimeAmount) -> Void) {
        shared.withLock { $0.operationHook = body }
    }

    /// Uses a thread of its own, because the test takes many calls.
    package func selfTest() async throws(StoreError) -> SelfTestReport {
        let volume = volume
        return try await onThread("store-selftest", deadline: .seconds(60), place: volume.files.root) {
            () throws(StoreError) in volume.selfTest()
        }
    }

    func record(_ operation: StoreOperation, _ duration: TimeAmount) {
        shared.withLock { $0.operationHook }?(operation, duration)
    }
}
