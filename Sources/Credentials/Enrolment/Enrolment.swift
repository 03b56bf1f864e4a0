import Formats
import HopProtocol
package import Settings

/// The parameters, beside its token, with which an agent reaches and verifies this gateway.
package struct Enrolment: Sendable, Equatable {
    /// The addresses that agents dial, in order of preference. Empty if they are not known.
    package let gateways: [HostPort]
    /// The SHA-256 hash of a certificate in the chain that the gateway presents, or `nil` to verify the chain by the
    /// system's root certificates.
    package let pin: [UInt8]?
    /// Remarks for the operator on the addresses and the pin.
    package let notes: [String]

    package init(gateways: [HostPort], pin: [UInt8]?, notes: [String]) {
        self.gateways = gateways
        self.pin = pin
        self.notes = notes
    }

    /// The join string for a token, or `nil` if the addresses are not known.
    package func joinString(for token: IssuedToken) -> String? {
        gateways.isEmpty
            ? nil : JoinString(gateways: gateways.map(\.description), pin: pin, token: token.text).text
    }

    /// Compares a join string with the present addresses and pin.
    ///
    /// - Returns: The token, and which of `addresses` and `pin` are not the present ones. `nil` if that in the
    ///   join string does not have the form of a token.
    func token(in join: JoinString) -> (token: IssuedToken, outdated: [String])? {
        guard let token = IssuedToken(join.token) else { return nil }
        let addresses = join.gateways == gateways.map(\.description) ? [] : ["addresses"]
        return (token, addresses + (join.pin == pin ? [] : ["pin"]))
    }

    /// The command that starts an agent with this token, for a service on port 3000, as a line for a shell. It requests
    /// all hosts that the token permits.
    ///
    /// - Parameter join: The option with the join string: `--join hgj_…` or `--join-file FILE`.
    package static func command(for credential: Credential, join: [String]) -> String {
        var words = ["hopagent", "http", "3000"]
        if !credential.allows(service: "http"), let first = credential.services.first {
            words += ["--service", first.example]
        }
        for host in credential.hosts { words += ["--host", host.description] }
        return (words + join).map(shellWord).joined(separator: " ")
    }
}
