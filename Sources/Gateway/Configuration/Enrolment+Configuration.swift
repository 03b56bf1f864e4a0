package import Certificates
package import Credentials
import HopProtocol
package import Settings

extension Enrolment {
    /// Determines the enrolment parameters of a gateway with this configuration.
    ///
    /// - Parameters:
    ///   - given: The addresses that the operator named.
    ///   - kept: The addresses of the join string that is replaced. If both are empty, the configured ones are used.
    ///   - store: The store with the root certificate of the development CA, which is created if it is needed and
    ///     missing.
    ///   - check: Throws if the TLS libraries do not accept a certificate.
    package init(
        _ configuration: GatewayConfiguration,
        gateways given: [HostPort],
        keeping kept: [HostPort] = [],
        store: CertificateSet,
        check: @escaping CertificateCheck
    ) async throws {
        guard given.count <= JoinString.gatewayLimit else {
            throw CredentialError(.invalid, "a join string has at most \(JoinString.gatewayLimit) gateways")
        }
        var (gateways, notes) = Self.addresses(configuration, given, kept)
        let pin = try await configuration.tunnelPin(
            hosts: gateways.map(\.host),
            in: store,
            check: check
        )
        if pin == nil {
            notes.append(
                "The join string has no pin, because the development CA does not answer there: agents verify the gateway "
                    + "by the system's roots, or by --ca-file or --pin."
            )
        }
        self.init(gateways: gateways, pin: pin, notes: notes)
    }

    /// The addresses that agents dial, from the operator, the replaced join string, the configuration, the listener or,
    /// last, this machine.
    private static func addresses(
        _ configuration: GatewayConfiguration,
        _ given: [HostPort],
        _ kept: [HostPort]
    ) -> (gateways: [HostPort], notes: [String]) {
        let option = "give --gateway HOST:PORT"
        let remedy = "set tunnel_addresses in the gateway's configuration, or \(option)"
        let listen = configuration.dtlsListen
        if !given.isEmpty { return (given, []) }
        if let first = kept.first {
            return (kept, kept.allSatisfy(\.isLoopback) ? [localOnly(first, option)] : [])
        }
        if !configuration.tunnelAddresses.isEmpty {
            return (Array(configuration.tunnelAddresses.prefix(JoinString.gatewayLimit)), [])
        }
        if listen.port == 0 {
            return ([], ["There is no join string, because the port of dtls_listen is chosen at the start: \(remedy)."])
        }
        let hosts = ["0.0.0.0": "127.0.0.1", "::": "::1"]
        let address = HostPort(host: hosts[listen.host] ?? listen.host, port: listen.port)
        return ([address], address.isLoopback ? [localOnly(address, remedy)] : [])
    }

    private static func localOnly(_ address: HostPort, _ remedy: String) -> String {
        "The join string names \(address), which is reachable from this machine only: \(remedy)."
    }
}
