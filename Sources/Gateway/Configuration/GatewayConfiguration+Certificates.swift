package import Certificates
import Settings
package import Store

extension GatewayConfiguration {
    package var usesDevelopmentCA: Bool {
        switch developmentCA {
        case .auto: certificates.isEmpty
        case .on: true
        case .off: false
        }
    }

    /// Where certificates come from, as a running gateway and every command see it.
    package var servedCertificates: ServedCertificates.Settings {
        ServedCertificates.Settings(
            files: certificates.map { Certificates.CertificateFiles(certificate: $0.cert, key: $0.key) },
            usesDevelopmentCA: usesDevelopmentCA,
            names: routes.map(\.host) + tunnelAddresses.map(\.host),
            check: TLSIdentities.check
        )
    }

    /// The pin that an agent needs for the gateway that runs with this configuration: the development root's, made now if
    /// there is none, when the development CA is what answers at every one of the tunnel addresses. Nil: the agent's
    /// system roots, or what it is told otherwise, decide.
    package func tunnelPin(in store: any Store) async throws(CertificatesError) -> String? {
        guard usesDevelopmentCA else { return nil }
        let served = try await ServedCertificates.open(servedCertificates, store: store)
        return served.tunnelPin(hosts: tunnelAddresses.map(\.host))
    }
}
