import ACME
import Certificates
import Formats
import Gateway
import Logging
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

/// The thumbprint of an account's key: 43 characters of base64url.
let thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

/// The fields of a challenge as stored.
func challengeFields(
    _ token: String,
    _ kind: ChallengeKind = .http01,
    name: String = "app.test"
) -> [String: JSONValue] {
    [
        "format": .integer(1), "type": .string(kind.rawValue), "name": .string(name), "token": .string(token),
        "key_authorization": .string("\(token).\(thumbprint)"),
    ]
}

func challenge(_ token: String, _ kind: ChallengeKind = .http01, name: String = "app.test") throws -> ChallengeTask {
    let key = ChallengeTask.storeKey(token: token)
    return try ChallengeTask(document: challengeFields(token, kind, name: name).json, at: key)
}

/// A new token, as long as those of Let's Encrypt.
func newToken() -> String {
    Base64URL.encode((0..<32).map { _ in UInt8.random(in: .min ... .max) })
}

extension GatewayProcess {
    /// Sends a validator's request to the HTTP port.
    func validate(_ token: String, host: String = "app.test") async throws -> TestResponse {
        let client = try await TestClient.connect(to: httpAddress, serverName: nil)
        let response = try await client.exchange("GET \(challengePath)\(token) HTTP/1.1\r\nHost: \(host)\r\n\r\n")
        await client.close()
        return response
    }

    func metric(_ name: String) async throws -> Double? {
        let client = try await TestClient.connect(to: opsAddress, serverName: nil)
        try await client.send("GET /metrics HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n")
        try await client.waitForClose()
        let line = client.text.split(whereSeparator: \.isNewline).first { $0.hasPrefix(name + " ") }
        return line?.split(separator: " ").last.flatMap { Double($0) }
    }
}

extension TestGateway {
    func plain() async throws -> TestClient {
        try await TestClient.connect(to: process.httpAddress, serverName: nil)
    }

    func validate(_ token: String, host: String = "app.test") async throws -> TestResponse {
        try await process.validate(token, host: host)
    }

    func metric(_ name: String) async throws -> Double? { try await process.metric(name) }

    var presenter: SharedChallenges {
        get throws { try #require(process.presenter) }
    }
}

let challengePath = "/.well-known/acme-challenge/"

var quiet: Logger {
    var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    logger.logLevel = .critical
    return logger
}

/// The keys of the cluster that tests without a gateway are.
let challengeKeyring = ClusterKeyring([.generate()])

extension ChallengeTask {
    var sealedDocument: [UInt8] { sealed(with: challengeKeyring.signing) }
}

/// A store in memory that counts its reads and can delay them.
final class HeldStore: Store {
    private struct State {
        var isHeld = false
        var reads = 0
        var failure: StoreError?
        var state = StoreState.healthy
    }

    let inner = VolumeStore.inMemory()
    private let held = Mutex(State())

    var reads: Int { held.withLock { $0.reads } }
    func hold(_ isHeld: Bool) { held.withLock { $0.isHeld = isHeld } }
    func fail(_ error: StoreError?) { held.withLock { $0.failure = error } }
    func set(_ state: StoreState) { held.withLock { $0.state = state } }

    func read(_ key: StoreKey) async throws(StoreError) -> StoredValue {
        try await read(key, within: .seconds(10))
    }
    func read(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> StoredValue {
        held.withLock { $0.reads += 1 }
        do {
            try await eventually("the end of the hold") { held.withLock { !$0.isHeld } }
        } catch {
            throw StoreError(.stalled, key.path, "\(error)")
        }
        if let failure = held.withLock({ $0.failure }) { throw failure }
        return try await inner.read(key, within: limit)
    }

    func earlier(_ key: StoreKey, within limit: TimeAmount) async throws(StoreError) -> [StoredValue] {
        try await inner.earlier(key, within: limit)
    }

    func createAll(
        _ keys: [StoreKey],
        content: @escaping @Sendable (StoreKey) throws(StoreError) -> [UInt8]
    ) async throws(StoreError) {
        try await inner.createAll(keys, content: content)
    }

    func readAll(
        _ prefix: StoreKey,
        _ deliver: @escaping @Sendable ([StoreReading], Int) -> Void
    ) async throws(StoreError) {
        try await inner.readAll(prefix, deliver)
    }
    func list(_ prefix: StoreKey) async throws(StoreError) -> [StoreKey] { try await inner.list(prefix) }
    func write(
        _ key: StoreKey,
        _ change: ValueWrite,
        under lease: (any StoreLease)?
    ) async throws(StoreError) -> UInt64 { try await inner.write(key, change, under: lease) }
    func watch(_ scope: WatchScope, _ deliver: @escaping WatchDelivery) -> StoreWatch { inner.watch(scope, deliver) }
    func lease(_ name: StoreKey, _ options: LeaseOptions) async throws(StoreError) -> any StoreLease {
        try await inner.lease(name, options)
    }
    func join(_ options: JoinOptions) async throws(StoreError) -> any StoreMember { try await inner.join(options) }
    func observeMembers(_ deliver: @escaping @Sendable (MemberEvent) -> Void) -> MemberObservation {
        inner.observeMembers(deliver)
    }
    func archive(_ member: Incarnation) async throws(StoreError) { try await inner.archive(member) }
    func clusterKey(_ id: String, namedBy document: String) async throws(StoreError) -> ClusterKey? {
        try await inner.clusterKey(id, namedBy: document)
    }
    func createClusterKey(_ key: ClusterKey) async throws(StoreError) { try await inner.createClusterKey(key) }
    func removeClusterKey(_ id: String) async throws(StoreError) { try await inner.removeClusterKey(id) }
    var state: StoreState { held.withLock { $0.state } }
    var diagnostics: StoreDiagnostics { inner.diagnostics }
    func onOperation(_ body: @escaping @Sendable (StoreOperation, TimeAmount) -> Void) { inner.onOperation(body) }
    func selfTest() async throws(StoreError) -> SelfTestReport { try await inner.selfTest() }
    func close() { inner.close() }
}

extension ACMEConfiguration {
    /// A configuration that uses ACME and orders nothing.
    static var forTests: ACMEConfiguration {
        let directory = ACMEURL("https://127.0.0.1:1/directory")!
        return ACMEConfiguration(authorities: [RenewalSettings.Authority(ACMEAuthority(directory: directory))])
    }
}
