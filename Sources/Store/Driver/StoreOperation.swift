package import NIOCore
internal import Synchronization

/// What a volume is asked to do, as far as its speed is worth knowing.
package enum StoreOperation: String, CaseIterable, Sendable {
    case read
    case list
    /// Values made, replaced and removed.
    case write
    /// Generations.
    case publish
    /// Taking, moving and checking a lease.
    case lease
    /// A beat of this process's journal, written and read back.
    case heartbeat
}

extension VolumeStore {
    /// Called after each operation, successful or not, with the time that the volume took for it; on a thread of the
    /// store. An operation that hangs is told of when it returns.
    package func onOperation(_ body: @escaping @Sendable (StoreOperation, TimeAmount) -> Void) {
        shared.withLock { $0.operationHook = body }
    }

    func observed(_ operation: StoreOperation, _ duration: TimeAmount) {
        shared.withLock { $0.operationHook }?(operation, duration)
    }
}
