import Formats
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

extension Volume {
    /// Opens the cluster as another process does, with a store of its own.
    @discardableResult
    func openCluster(mounted: [ClusterKey]? = nil) async throws(StoreError) -> ClusterIdentity {
        let store = VolumeStore(volume: self)
        defer { store.close() }
        return try await store.openCluster(mounted: mounted).cluster
    }
}

extension GarbageCollector {
    /// Examines a whole round and deletes what was found. Returns the number of deletions.
    ///
    /// - Parameter settled: The time before which all members have acted on removals.
    func sweep(now: NIODeadline, settled: NIODeadline? = .distantFuture) throws -> Int {
        self.settled = settled
        var count = 0
        repeat {
            var rest = try examine(now: now)[...]
            count += rest.count
            while !rest.isEmpty { rest = delete(rest) }
        } while !isRoundFinished
        return count
    }
}

extension ScratchFolder {
    /// A file system of its own on the folder of ``volume()``, as another process has it.
    func posixFiles() throws -> PosixFileSystem {
        _ = try volume()
        return try PosixFileSystem(path: file("v2"), creating: false)
    }
}

/// A monotonic clock that the test advances.
final class TestClock: Sendable {
    private let time: Mutex<NIODeadline>

    init(_ start: NIODeadline = .uptimeNanoseconds(1_000_000_000_000)) { time = Mutex(start) }

    var now: NIODeadline { time.withLock { $0 } }
    func pass(_ amount: TimeAmount) { time.withLock { $0 = $0 + amount } }

    /// The clock of a volume.
    var reading: @Sendable () -> NIODeadline { { [self] in now } }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func randomIncarnation() -> Incarnation {
    Incarnation(milliseconds: 1_700_000_000_000) { UInt64.random(in: .min ... .max) }
}

/// Returns the code of the store error that a call throws, or `nil` if it succeeds.
func code(_ body: () async throws -> Void) async -> StoreError.Code? {
    do { try await body() } catch { return storeCode(error) }
    return nil
}

/// The same for a call that is not asynchronous.
func code(_ body: () throws -> Void) -> StoreError.Code? {
    do { try body() } catch { return storeCode(error) }
    return nil
}

private func storeCode(_ error: any Error) -> StoreError.Code? {
    if let error = error as? StoreError { return error.code }
    Issue.record("not a store error: \(error)")
    return nil
}

/// Returns the bytes of a hexadecimal text.
func hex(_ text: String) -> [UInt8] { Hex.bytes(text)! }
