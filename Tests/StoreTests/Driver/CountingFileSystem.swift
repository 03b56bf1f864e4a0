import Store
import Synchronization
import TestSupport

/// A file system that counts its calls by call and path.
struct CountingFileSystem: InterceptedFileSystem {
    final class Counts: Sendable {
        private let counts = Mutex<[String: Int]>([:])

        func count(_ call: String, _ path: String) { counts.withLock { $0["\(call) \(path)", default: 0] += 1 } }

        func reset() { counts.withLock { $0 = [:] } }

        var all: [String: Int] { counts.withLock { $0 } }

        /// The number of calls of each kind, for all paths together.
        var kinds: [String: Int] {
            all.reduce(into: [:]) { $0[String($1.key.prefix { $0 != " " }), default: 0] += $1.value }
        }
    }

    let files: any FileSystem
    let counts = Counts()

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) {
        counts.count(call.rawValue, path)
    }
}
