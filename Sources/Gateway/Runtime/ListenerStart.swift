import Observability
package import Settings
import Transport

/// The start of one listener: words the failure for the operator.
package struct ListenerStart: Sendable {
    private let setting: String
    private let isUDP: Bool

    /// - Parameter setting: The name of the setting that contains the address.
    package init(_ setting: String, isUDP: Bool = false) {
        self.setting = setting
        self.isUDP = isUDP
    }

    /// Calls `bind` with `address`.
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
            throw GatewayStartError(failure.text(listeningOn: "\(address)\(isUDP ? "/udp" : "")", key: setting))
        }
    }
}
