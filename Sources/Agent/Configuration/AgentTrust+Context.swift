import DTLS
import Transport

extension AgentTrust {
    /// Creates the context for the dials with this trust.
    func makeContext() throws(AgentError) -> DTLSContext {
        let (trust, remedy): (DTLSTrust, String) =
            switch self {
            case .system: (.systemRoots, "install the system's package of CAs, or set trust.ca_file or trust.pin")
            case .caFile(let path): (.caFile(path: path), "trust.ca_file is a PEM file with the CAs of the gateway")
            case .pin(let digest): (.pin(sha256: digest), "correct trust.pin")
            }
        do throws(DTLSError) {
            return try .client(DTLSClientConfiguration(trust: trust, alpn: [TunnelProtocol.alpn]))
        } catch {
            throw AgentError("\(error.message); \(remedy)")
        }
    }
}

/// The reason why an agent cannot start.
package struct AgentError: Error, Equatable, CustomStringConvertible {
    package var message: String
    package init(_ message: String) { self.message = message }
    package var description: String { message }
}
