import Cluster
package import Formats
import Observability
import Settings
import Store

/// A command's way to the admin port of the gateway that runs with the same configuration.
package struct AdminClient: Sendable {
    /// An answer's bytes at most: ten thousand attachments.
    private static let answerLimit = 16 << 20

    private let configuration: GatewayConfiguration
    private let token: String
    private let seconds: Int

    /// Finds the token: in the configured file, or derived from the cluster's key, which the store or the mounted secret
    /// has.
    ///
    /// - Parameter seconds: for a question and its answer.
    package init(_ configuration: GatewayConfiguration, seconds: Int = 5) async throws {
        self.configuration = configuration
        self.seconds = seconds
        if let file = configuration.adminTokenFile {
            token = try AdminTokens.read(file)
            return
        }
        // A mounted key needs no store, which may be what is in trouble.
        if let mounted = try configuration.store.mountedKeys() {
            token = ClusterKeyring(mounted).signing.adminToken
            return
        }
        let (shared, volume) = try await SharedStore.openExisting(configuration.store)
        defer { volume.close() }
        token = shared.keyring.signing.adminToken
    }

    package func get(_ path: String) throws(AdminClientError) -> [String: JSONValue] {
        try ask("GET", path)
    }

    package func post(_ path: String) throws(AdminClientError) -> [String: JSONValue] {
        try ask("POST", path)
    }

    private func ask(_ method: String, _ path: String) throws(AdminClientError) -> [String: JSONValue] {
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
                error.isRefused ? .nobody : .failed,
                "\(error); is the gateway running, and is this its admin_listen?"
            )
        }
        let fields = [String: JSONValue](json: Array(answer.body.utf8))
        switch answer.status {
        case 200..<300:
            guard let fields else { throw AdminClientError(.failed, "\(probe.url) does not answer with JSON") }
            return fields
        case 401:
            throw AdminClientError(
                .failed,
                "\(probe.url) does not take our token; run this with the configuration of that gateway"
            )
        default:
            let reason = fields?["error"]?.string ?? answer.body
            throw AdminClientError(.failed, "\(probe.url) answers \(answer.status): \(reason)")
        }
    }
}

/// The gateway was not asked, or refused; the text is for the operator.
package struct AdminClientError: Error, CustomStringConvertible {
    package enum Code: Sendable {
        /// Nobody listens there.
        case nobody
        case failed
    }

    package let code: Code
    package let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
