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

extension VolumeStore {
    /// Sets a closure that is called after each operation, successful or not, with the time that the volume took, on a
    /// thread of the store. An operation that hangs is reported when it returns.
    package func onOperation(_ body: @escaping @Sendable (StoreOperation, TimeAmount) -> Void) {
        shared.withLock { $0.operationHook = body }
    }

    func record(_ operation: StoreOperation, _ duration: TimeAmount) {
        shared.withLock { $0.operationHook }?(operation, duration)
    }
}
