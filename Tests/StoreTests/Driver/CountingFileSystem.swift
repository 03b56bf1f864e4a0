import Store
import Synchronization

/// A file system that counts its calls by call and path.
struct CountingFileSystem: InterceptedFileSystem {
    final class Counts: Sendable {
        private let counts = Mutex<[String: Int]>([:])

        func count(_ call: String, _ path: String) { counts.withLock { $0["\(call) \(path)", default: 0] += 1 } }

        func reset() { counts.withLock { $0 = [:] } }

        var all: [String: Int] { counts.withLock { $0 } }
    }

    let files: any FileSystem
    let counts = Counts()

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) {
        counts.count(call.rawValue, path)
    }
}
