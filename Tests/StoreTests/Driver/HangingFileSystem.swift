import Foundation
import Store
import TestSupport

/// A file system whose calls hang on demand, as on a mount whose server is unreachable, or that has no space for new
/// files.
struct HangingFileSystem: InterceptedFileSystem {
    /// The point at which hanging calls wait.
    final class Gate: @unchecked Sendable {
        private let condition = NSCondition()
        private var isClosed = false
        private var isFull = false
        /// The only paths whose opening or listing hangs, and all below one that ends in "/"; empty if every call does.
        private var paths: Set<String> = []
        private var waiting = 0

        func hang(_ isHanging: Bool, at paths: String...) {
            condition.lock()
            isClosed = isHanging
            self.paths = Set(paths)
            condition.broadcast()
            condition.unlock()
        }

        func fill(_ isFull: Bool) {
            condition.withLock { self.isFull = isFull }
        }

        /// The number of calls that hang now.
        var waitingCount: Int { condition.withLock { waiting } }

        func pass(_ path: String?) {
            condition.lock()
            waiting += 1
            while isClosed, paths.isEmpty || path.map(hangs) == true { condition.wait() }
            waiting -= 1
            condition.unlock()
        }

        private func hangs(_ path: String) -> Bool {
            paths.contains { $0.hasSuffix("/") ? path.hasPrefix($0) : path == $0 }
        }

        var hasSpace: Bool { condition.withLock { !isFull } }
    }

    let files: any FileSystem
    let gate = Gate()

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
        gate.pass([.open, .forceSync, .list].contains(call) ? path : nil)
        if access == .createNew, !gate.hasSpace { throw FileFault(call, path, ENOSPC) }
    }
}
