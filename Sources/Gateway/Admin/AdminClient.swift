import Cluster
package import Formats
import Observability
import Settings
import Store

/// A client of the admin port, for the commands of the command line. It reaches the gateway that runs with the same
/// configuration.
package struct AdminClient: Sendable {
    /// The maximum size of a response in bytes, several times that of a page. It limits the values of the JSON, too.
    private static let answerLimit = 4 << 20

    private let configuration: GatewayConfiguration
    private let token: String
    /// The source of the token, for messages.
    private let origin: String
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
            origin = "admin_token_file, \(file)"
            return
        }
        // A mounted key can be read without the store, which may be the cause of the trouble.
        if let mounted = try await configuration.store.mountedKeys() {
            token = ClusterKeyring(mounted).signing.adminToken
            origin = "the key in cluster_key_file, \(configuration.store.clusterKeyFile ?? "")"
            return
        }
        let shared: SharedStore
        do throws(StoreError) {
            shared = try await SharedStore.openExisting(configuration.store)
        } catch {
            throw Self.withoutToken(error, configuration.store)
        }
        defer { shared.close() }
        token = shared.keyring.signing.adminToken
        origin = "the key of cluster \(shared.cluster.id) in \(configuration.store.path)"
    }

    /// Verifies that no gateway answers at `admin_listen`, before a command founds a cluster: a gateway that runs with
    /// this configuration has one, so that its volume is not mounted where the command runs.
    package static func requireNoGateway(_ configuration: GatewayConfiguration) throws(AdminClientError) {
        let listen = configuration.adminListen
        let probe = OpsProbe(host: listen.host, port: listen.port, path: "/v1/status", seconds: 2)
        guard let answer = try? probe.send(), answer.status == 401 else { return }
        throw AdminClientError(
            .failed,
            "a gateway runs at \(listen) (admin_listen), and \(configuration.store.path) has no cluster: "
                + "is the volume mounted here? If this is for another gateway, use its configuration"
        )
    }

    /// The error that the store gives no token, if that is the meaning of an error of opening it.
    private static func withoutToken(_ error: StoreError, _ store: SharedStoreConfiguration) -> StoreError {
        let remedy =
            "see /readyz at ops_listen for its state, or set admin_token_file for the gateway and its commands"
        let reason: String? =
            switch error.code {
            // Not a key that is missing.
            case .notFound where error.place == store.folder:
                "there is no cluster, so the admin token, which comes from the cluster's key, is not known. "
                    + "Is store.path that of the running gateway, and mounted? If so, \(remedy)"
            case .unsupported where error.place == "store.driver":
                "is \"memory\": only the running gateway has the key from which the admin token comes; \(remedy)"
            default: nil
            }
        return reason.map { StoreError(error.code, error.place, $0) } ?? error
    }

    /// Sends the first request of a command. If it fails, and the cluster's key is missing or cannot be used, that is
    /// the error: without the key no gateway starts, and another key gives another token.
    package func request(
        _ method: String,
        _ path: String
    ) async throws(AdminClientError) -> [String: JSONValue] {
        do throws(AdminClientError) {
            return try send(method, path)
        } catch {
            // A gateway that has accepted the token has the key.
            guard error.code != .rejected, let cause = await storeProblem() else { throw error }
            throw AdminClientError(error.code, "\(cause) (\(error))")
        }
    }

    /// Returns the reason why no gateway can start with the store, or `nil` if there is none or it may pass by itself.
    private func storeProblem() async -> StoreError? {
        guard configuration.store.driver == .volume else { return nil }
        do throws(StoreError) {
            try await SharedStore.openExisting(configuration.store).close()
            return nil
        } catch {
            // A user with the admin token in a file may have no access to the store.
            let isOfReader = error.isTransient || error.code == .denied
            return isOfReader || error.place == configuration.store.folder ? nil : error
        }
    }

    package func get(_ path: String) throws(AdminClientError) -> [String: JSONValue] {
        try send("GET", path)
    }

    /// Reads the list `/v1/NAME` page by page, and calls `body` with the entries of each.
    package func pages(_ name: String, _ body: ([[String: JSONValue]]) throws -> Void) throws {
        var after: String?
        repeat {
            let page = try get("/v1/\(name)" + (after.map { "?after=\($0)" } ?? ""))
            try body((page[name]?.array ?? []).compactMap(\.object))
            after = page["next"]?.string
        } while after != nil
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
        var limits = JSONLimits()
        (limits.size, limits.values) = (Self.answerLimit, Self.answerLimit)
        let fields = [String: JSONValue](json: Array(answer.body.utf8), limits: limits)
        switch answer.status {
        case 200..<300:
            guard let fields else { throw AdminClientError(.failed, "\(probe.url) did not respond with JSON") }
            return fields
        case 401:
            throw AdminClientError(
                .failed,
                "\(probe.url) rejected the token, which comes from \(origin); run this command with the configuration "
                    + "of that gateway, and its volume mounted"
            )
        default:
            let reason = fields?["error"]?.string ?? answer.body
            throw AdminClientError(.rejected, "\(probe.url) responded \(answer.status): \(reason)")
        }
    }
}

/// The gateway could not be reached, or rejected the request. The description is addressed to the operator.
package struct AdminClientError: Error, CustomStringConvertible {
    package enum Code: Sendable {
        /// The connection was refused.
        case notListening
        /// The gateway accepted the token, and has responded with an error.
        case rejected
        case failed
    }

    package let code: Code
    package let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
