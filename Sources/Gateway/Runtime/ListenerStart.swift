package import Logging
import Observability
package import Settings
import Transport

/// The start of one listener: falls back to IPv4 where there is no IPv6, and words the failure for the operator.
package struct ListenerStart: Sendable {
    private let setting: String
    private let isUDP: Bool
    private let logger: Logger

    /// - Parameter setting: The name of the setting that contains the address.
    package init(_ setting: String, isUDP: Bool = false, _ logger: Logger) {
        self.setting = setting
        self.isUDP = isUDP
        self.logger = logger
    }

    /// Calls `bind` with `address`, and with `0.0.0.0` if the address is `[::]` and the machine has no IPv6.
    ///
    /// - Throws: ``GatewayStartError``.
    package func run<Listener>(
        _ address: ListenAddress,
        bind: (ListenAddress) async throws -> Listener
    ) async throws -> Listener {
        do {
            return try await bind(address)
        } catch {
            let number = (error as? TransportError)?.errno ?? 0
            let failure = number == 0 ? SocketFailure(error) : SocketFailure(errno: number)
            if address.host == "::", failure.isMissingFamily {
                let fallback = ListenAddress(host: "0.0.0.0", port: address.port)
                logger.notice(
                    "no IPv6 on this machine, listening on IPv4 only",
                    metadata: ["setting": "\(setting)", "listen": "\(fallback)"]
                )
                return try await run(fallback, bind: bind)
            }
            throw GatewayStartError(failure.text(listeningOn: "\(address)\(isUDP ? "/udp" : "")", key: setting))
        }
    }
}
