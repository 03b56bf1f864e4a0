import Formats
import HopProtocol
package import Settings
package import Store

/// What an agent has to know of this gateway beside its token: where it is and what to verify it by.
package struct Enrolment: Sendable, Equatable {
    /// As agents dial them, in order of preference; empty: nobody can know.
    package let gateways: [HostPort]
    /// SHA-256 of a certificate in the chain that the gateway shows; nil: the system's roots.
    package let pin: [UInt8]?
    /// What the operator should know of them.
    package let notes: [String]

    /// - Parameters:
    ///   - gateways: as the operator names them; empty: as the configuration says.
    ///   - store: where the development CA's root is; it is made when it is needed and not there.
    package init(_ configuration: GatewayConfiguration, gateways given: [HostPort], store: any Store) async throws {
        guard given.count <= JoinString.gatewayLimit else {
            throw CredentialError(.invalid, "a join string has at most \(JoinString.gatewayLimit) gateways")
        }
        var notes: [String] = []
        let remedy = "set tunnel_addresses in the gateway's configuration, or give --gateway HOST:PORT"
        let listen = configuration.dtlsListen
        if !given.isEmpty {
            gateways = given
        } else if !configuration.tunnelAddresses.isEmpty {
            gateways = Array(configuration.tunnelAddresses.prefix(JoinString.gatewayLimit))
        } else if listen.port == 0 {
            gateways = []
            notes.append("There is no join string, because the port of dtls_listen is chosen at the start: \(remedy).")
        } else {
            let hosts = ["0.0.0.0": "127.0.0.1", "::": "::1"]
            let address = HostPort(host: hosts[listen.host] ?? listen.host, port: listen.port)
            gateways = [address]
            if address.isLoopback {
                notes.append("The join string names \(address), which is this machine alone: \(remedy).")
            }
        }
        if let pin = try await configuration.tunnelPin(
            hosts: gateways.map(\.host),
            in: store,
            check: TLSIdentities.check
        ) {
            self.pin = pin
        } else {
            pin = nil
            notes.append(
                "The join string has no pin, because the development CA does not answer there: agents verify the gateway "
                    + "by the system's roots, or by --ca-file or --pin."
            )
        }
        self.notes = notes
    }

    /// Everything in one word; nil if there is no address.
    package func joinString(for token: IssuedToken) -> String? {
        gateways.isEmpty ? nil : join(for: token).text
    }

    /// The token of a join string that says of this gateway what would be said now, or of what it says otherwise.
    func token(in text: String) -> (token: IssuedToken, isCurrent: Bool)? {
        guard let join = try? JoinString(text), let token = IssuedToken(join.token) else { return nil }
        return (token, !gateways.isEmpty && join == self.join(for: token))
    }

    private func join(for token: IssuedToken) -> JoinString {
        JoinString(gateways: gateways.map(\.description), pin: pin, token: token.text)
    }

    /// What enrols an agent of this token, for a service on port 3000.
    ///
    /// - Parameter join: how the join string gets there: `--join hgj_…` or `--join-file FILE`.
    package static func command(for credential: Credential, join: String) -> String {
        var words = ["hopagent", "http", "3000"]
        if !credential.allows(service: "http") {
            for case .exact(let name) in credential.services.prefix(1) { words += ["--service", name] }
        }
        for case .exact(let host) in credential.hosts { words += ["--host", host] }
        return (words + [join]).joined(separator: " ")
    }
}
