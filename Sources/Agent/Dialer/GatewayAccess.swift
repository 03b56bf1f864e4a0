import DTLS
import Logging
import Settings
import Synchronization
import Threads

/// The settings with which the next attempt to attach is made: gateways, token and trust.
///
/// The settings in a file are read again every two seconds. Attached tunnels stay: the gateway ends those of an expired
/// secret.
struct GatewayAccess: Sendable {
    static let readInterval = Duration.seconds(2)

    var configuration: AgentConfiguration
    /// The context for ``configuration``'s trust.
    var dtls: DTLSContext

    typealias Polled = PolledValue<GatewayAccess, AgentError>

    /// Creates the access of a configuration, which follows its file once it is started.
    ///
    /// - Throws: If the trust cannot be used.
    static func polled(_ configuration: AgentConfiguration, log: Logger) throws(AgentError) -> Polled {
        let initial = GatewayAccess(configuration: configuration, dtls: try configuration.trust.makeContext())
        let path = configuration.identityFile?.path ?? ""
        let last = Mutex(initial)
        return PolledValue(
            initial,
            name: "token-file",
            interval: readInterval,
            onChange: { problem in
                if let problem {
                    let metadata: Logger.Metadata = ["file": "\(path)", "reason": "\(problem)"]
                    log.error("token file unusable, its last valid contents stay in use", metadata: metadata)
                } else {
                    log.info("token file usable again", metadata: ["file": "\(path)"])
                }
            },
            read: { () throws(AgentError) in
                let before = last.withLock { $0 }
                let access = try before.rereading()
                guard access.configuration != before.configuration else { return before }
                last.withLock { $0 = access }
                let configuration = access.configuration
                log.info(
                    "token file changed",
                    metadata: [
                        "file": "\(path)", "token": "\(configuration.token)",
                        "gateways": "\(configuration.gateways.map(\.description).joined(separator: ","))",
                    ]
                )
                return access
            }
        )
    }

    private func rereading() throws(AgentError) -> GatewayAccess {
        var result = self
        do throws(SettingsError) {
            result.configuration = try configuration.rereading()
        } catch {
            throw AgentError(error.problems.map { "\($0.what). \($0.remedy)" }.joined(separator: " "))
        }
        if result.configuration.trust != configuration.trust {
            result.dtls = try result.configuration.trust.makeContext()
        }
        return result
    }
}
