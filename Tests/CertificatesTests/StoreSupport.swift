import ACME
import Certificates
import Dispatch
import Formats
import Foundation
import NIOCore
import Store
import Synchronization
import TestSupport

extension ScratchFolder {
    func store() throws -> VolumeStore { VolumeStore(volume: try volume()) }

    /// Writes a chain and its key.
    func files(chain: String, key: String, _ name: String = "") -> CertificateFiles {
        CertificateFiles(certificate: write("\(name)chain.pem", chain), key: write("\(name)key.pem", key))
    }

    /// Creates a store behind a file system that counts failures. Its prefixes are polled ten times a second.
    func observedStore() throws -> (store: VolumeStore, files: ObservedFileSystem) {
        try volume().prepare()
        let posix = try PosixFileSystem(path: file("v2"), creating: false)
        let files = ObservedFileSystem(posix)
        var options = VolumeStore.Options()
        options.watchInterval = .milliseconds(100)
        return (VolumeStore(volume: Volume(files: files), options: options), files)
    }
}

/// The keys of the cluster that the tests are.
let testKeyring = ClusterKeyring([.generate()])

extension Store {
    var certificates: CertificateSet { CertificateSet(self) { testKeyring } }
}

/// Stores a certificate the way `hopgate cert import` does.
@discardableResult
func publish(_ test: TestCertificate, as key: StoreKey, in store: any Store) async throws -> UInt64 {
    let certificate = try test.loaded()
    return try await store.certificates.withLease(of: key) { lease throws(StoreError) in
        try await store.certificates.write(certificate, as: key, origin: "import", under: lease)
    }
}

/// Stores a sealed document of any contents in the place of a certificate.
func plant(chain: String, key: String, at place: StoreKey, in store: any Store) async throws {
    let fields: [String: JSONValue] = [
        "format": .integer(1), "source": .string("import"), "chain": .string(chain), "key": .string(key),
    ]
    let bytes = SealedDocument.seal(fields.json, .certificate, context: place.path, with: testKeyring.signing)
    try await store.put(place, bytes)
}

func names(_ test: TestCertificate) -> [CertificateName] { test.names.compactMap { CertificateName($0) } }

/// A file system that fails every write, like a volume that was remounted read-only.
struct ReadOnlyFileSystem: InterceptedFileSystem {
    let files: any FileSystem

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
        guard access == .read || [.stat, .forceSync, .list].contains(call) else { throw FileFault(call, path, EROFS) }
    }
}

/// A file system that fails the calls below a path that the test selects.
final class ObservedFileSystem: InterceptedFileSystem {
    private struct State {
        /// The number of files that may be opened before the next hangs.
        var opens: Int?
        var suffix = ""
        var hangs: [DispatchSemaphore] = []
        var failing: String?
        var failures = 0
    }

    let files: any FileSystem
    private let state = Mutex(State())

    init(_ files: any FileSystem) { self.files = files }

    /// Makes calls below this path fail with EIO; `nil` ends the failures.
    func fail(_ path: String?) { state.withLock { ($0.failing, $0.failures) = (path, 0) } }

    /// Makes the opening of values whose path ends like this hang after this many; `nil` ends it.
    func hang(after opens: Int?, of suffix: String = ".json") {
        let ended = state.withLock { state in
            defer { (state.opens, state.suffix, state.hangs) = (opens, suffix, []) }
            return state.hangs
        }
        ended.forEach { $0.signal() }
    }

    /// Lets values be opened again, while those that hang go on hanging.
    func admit() { state.withLock { $0.opens = nil } }

    var failures: Int { state.withLock { $0.failures } }
    var hanging: Int { state.withLock { $0.hangs.count } }

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
        guard [.open, .stat, .forceSync, .list].contains(call) else { return }
        let isFailing = state.withLock { state in
            let isFailing = state.failing.map { path.hasPrefix($0) } ?? false
            if isFailing { state.failures += 1 }
            return isFailing
        }
        if isFailing { throw FileFault(call, path, EIO) }
        let hang = state.withLock { state -> DispatchSemaphore? in
            guard call == .open, let opens = state.opens, path.hasSuffix(state.suffix) else { return nil }
            state.opens = max(0, opens - 1)
            guard opens == 0 else { return nil }
            state.hangs.append(DispatchSemaphore(value: 0))
            return state.hangs.last
        }
        hang?.wait()
    }
}

/// Repeats one piece of work on a thread of its own, so that it occupies no thread of the task pool.
final class Busy: Sendable {
    private let isStopped = Atomic(false)
    private let rounds = Atomic(0)
    private let ended = DispatchSemaphore(value: 0)

    init(_ body: @escaping @Sendable () -> Void) {
        Thread.detachNewThread { [self] in
            while !isStopped.load(ordering: .relaxed) {
                body()
                rounds.add(1, ordering: .relaxed)
            }
            ended.signal()
        }
    }

    /// Waits for the round that is under way. Returns how many there were.
    func stop() -> Int {
        isStopped.store(true, ordering: .relaxed)
        ended.wait()
        return rounds.load(ordering: .relaxed)
    }
}
