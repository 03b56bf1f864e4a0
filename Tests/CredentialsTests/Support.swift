import Credentials
import Formats
import Foundation
import Logging
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

/// A store with the keys of a cluster, and a wall clock that the test sets.
final class TestStore: Sendable {
    enum Driver: String, CaseIterable, Sendable {
        case memory
        case volume
    }

    let store: any Store
    /// The folder of the volume, or `nil` in memory.
    private let folder: ScratchFolder?
    private let state: Mutex<(keyring: ClusterKeyring, now: UnixTime)>

    init(_ driver: Driver = .memory) throws {
        folder = driver == .volume ? ScratchFolder() : nil
        let files = try folder.map { try PosixFileSystem(path: $0.file("v2"), creating: true) as any FileSystem }
        let volume = Volume(files: files ?? MemoryFileSystem())
        try volume.prepare()
        var options = VolumeStore.Options()
        options.watchInterval = .milliseconds(100)
        store = VolumeStore(volume: volume, options: options)
        state = Mutex((ClusterKeyring([.generate()]), UnixTime(seconds: 1_800_000_000)))
    }

    /// The path of the volume, or `nil` in memory.
    var path: String? { folder?.file("v2") }

    deinit { store.close() }

    var keyring: ClusterKeyring {
        get { state.withLock { $0.keyring } }
        set { state.withLock { $0.keyring = newValue } }
    }

    var now: UnixTime {
        get { state.withLock { $0.now } }
        set { state.withLock { $0.now = newValue } }
    }

    var editor: CredentialEditor {
        CredentialEditor(store: store, keyring: keyring) { [self] in now }
    }

    func cache(_ logger: Logger = LogLines().logger) -> CredentialCache {
        CredentialCache(store: store, keyring: { [self] in keyring }, logger: logger) { [self] in now }
    }

    /// Writes arbitrary bytes as the next version.
    func plant(_ bytes: [UInt8], id: String) async throws {
        let key = try StoreKey("agents/\(id)")
        let newest = try? await store.read(key).version
        if let newest {
            try await store.write(key, .replace(newest, bytes))
        } else {
            try await store.write(key, .create(bytes))
        }
    }

    /// Changes the fields of a document and seals it as the gateway does.
    func edit(_ id: String, _ change: (inout [String: JSONValue]) -> Void) async throws {
        let stored = try await store.read(try StoreKey("agents/\(id)"))
        var fields = try #require([String: JSONValue](json: stored.bytes))
        fields["mac"] = nil
        change(&fields)
        let place = "agents/\(id)/\(stored.version + 1)"
        try await plant(SealedDocument.seal(fields.json, .credential, context: place, with: keyring.signing), id: id)
    }
}

/// Watches the store for as long as `body` runs, and passes it a function that returns all changes observed.
func watching(
    _ cache: CredentialCache,
    _ body: (_ observed: @escaping @Sendable () -> Observed) async throws -> Void
) async throws {
    let observed = ObservedChanges()
    let task = Task { await cache.run { observed.add($0) } }
    do {
        try await body { observed.all }
    } catch {
        task.cancel()
        await task.value
        throw error
    }
    task.cancel()
    await task.value
}

/// The ids of all reports, in their order.
struct Observed: Sendable {
    var ended: [String] = []
    var changed: [String] = []
    var added: [String] = []
}

private final class ObservedChanges: Sendable {
    private let changes = Mutex(Observed())

    var all: Observed { changes.withLock { $0 } }

    func add(_ more: CredentialChanges) {
        changes.withLock { changes in
            changes.ended += more.ended.sorted()
            changes.changed += more.changed.sorted()
            changes.added += more.added.sorted()
        }
    }
}

/// A log that keeps its lines.
final class LogLines: Sendable {
    let lines = Mutex<[String]>([])

    var logger: Logger {
        Logger(label: "test") { _ in Handler(owner: self) }
    }

    var all: [String] { lines.withLock { $0 } }

    private struct Handler: LogHandler {
        let owner: LogLines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            owner.lines.withLock { $0.append("\(event.message) \(event.metadata ?? [:])") }
        }
    }
}

extension CredentialCache {
    func verify(_ id: String, _ secret: String, host: Int = 1) throws -> AuthenticationResult {
        let address = try SocketAddress(ipAddress: "192.0.2.\(host)", port: 7)
        return verify(id: id, secret: secret, from: address, now: .uptimeNanoseconds(1_000_000_000_000))
    }

    func verify(_ token: IssuedToken, host: Int = 1) throws -> AuthenticationResult {
        try verify(token.id, token.secret, host: host)
    }
}

extension AuthenticationResult {
    var isGranted: Bool {
        if case .granted = self { true } else { false }
    }

    var refusal: CredentialRefusal? {
        if case .refused(let refusal, _) = self { refusal } else { nil }
    }

    var wait: TimeAmount? {
        if case .refused(_, let wait) = self { wait } else { nil }
    }
}

/// Returns the error of a call on credentials.
func credentialError(_ body: () async throws -> Void) async -> CredentialError? {
    do {
        try await body()
        return nil
    } catch {
        return error as? CredentialError
    }
}
