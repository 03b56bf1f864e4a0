import Cluster
package import Formats
import Observability
import Settings
import Store

/// A client of the admin port, for the commands of the command line. It reaches the gateway that runs with the same
/// configuration.
package struct AdminClient: Sendable {
    /// The maximum size of a response in bytes, enough for ten thousand attachments.
    private static let answerLimit = 16 << 20

    private let configuration: GatewayConfiguration
    private let token: String
    private let seconds: Int

    /// Creates a client with the token from the configured file, or with one derived from the cluster key, which is
    /// read from the mounted secret or the store.
    ///
    /// - Parameter seconds: The timeout of a request and its response.
    package init(_ configuration: GatewayConfiguration, seconds: Int = 5) async throws {
        self.configuration = configuration
        self.seconds = seconds
        if let file = configuration.adminTokenFile {
            token = try AdminTokens.read(file)
            return
        }
        // A mounted key can be read without the store, which may be the cause of the trouble.
        if let mounted = try configuration.store.mountedKeys() {
            token = ClusterKeyring(mounted).signing.adminToken
            return
        }
        let (shared, volume) = try await SharedStore.openExisting(configuration.store)
        defer { volume.close() }
        token = shared.keyring.signing.adminToken
    }

    package func get(_ path: String) throws(AdminClientError) -> [String: JSONValue] {
        try send("GET", path)
    }

    package func post(_ path: String) throws(AdminClientError) -> [String: JSONValue] {
        try send("POST", path)
    }

    private func send(_ method: String, _ path: String) throws(AdminClientError) -> [String: JSONValue] {
        let probe = OpsProbe(
            host: configuration.adminListen.host,
            port: configuration.adminListen.port,
            path: path,
            seconds: seconds,
            method: method,
            fields: [("Authorization", "Bearer \(token)")],
            limit: Self.answerLimit
        )
        let answer: OpsProbe.Response
        do {
            answer = try probe.send()
        } catch {
            throw AdminClientError(
                error.isRefused ? .notListening : .failed,
                "\(error); is the gateway running, and is this its admin_listen?"
            )
        }
        let fields = [String: JSONValue](json: Array(answer.body.utf8))
        switch answer.status {
        case 200..<300:
            guard let fields else { throw AdminClientError(.failed, "\(probe.url) did not respond with JSON") }
            return fields
        case 401:
            throw AdminClientError(
                .failed,
                "\(probe.url) rejected the token; run this command with the configuration of that gateway"
            )
        default:
            let reason = fields?["error"]?.string ?? answer.body
            throw AdminClientError(.failed, "\(probe.url) responded \(answer.status): \(reason)")
        }
    }
}

/// The gateway could not be reached, or rejected the request. The description is addressed to the operator.
package struct AdminClientError: Error, CustomStringConvertible {
    package enum Code: Sendable {
        /// The connection was refused.
        case notListening
        case failed
    }

    package let code: Code
    package let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
