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

    /// The sources of certificates, as a running gateway and every command see them.
    ///
    /// - Parameter check: Throws if the TLS libraries do not accept a certificate.
    package func servedCertificates(
        check: @escaping @Sendable (ServerCertificate) throws -> Void
    ) -> ServedCertificates.Settings {
        ServedCertificates.Settings(
            files: certificates,
            usesDevelopmentCA: usesDevelopmentCA,
            names: routes.map(\.host) + tunnelAddresses.map(\.host)
                + (acme?.names.joined().map(\.description) ?? []),
            check: check
        )
    }

    /// The pin by which an agent that dials these hosts knows the gateway that runs with this configuration: SHA-256 of the
    /// development root, made now if there is none, when the development CA is what answers at every one of them. Nil: the
    /// agent's system roots, or what it is told otherwise, decide.
    ///
    /// Where ACME is going to answer there is no pin from the start: the pin would be wrong as soon as the first
    /// certificate is there, and who holds it would stay outside.
    package func tunnelPin(
        hosts: [String],
        in store: any Store,
        check: @escaping @Sendable (ServerCertificate) throws -> Void
    ) async throws(CertificatesError) -> [UInt8]? {
        guard usesDevelopmentCA, acme?.mayAnswer(at: hosts) != true else { return nil }
        return try await ServedCertificates.open(servedCertificates(check: check), store: store)
            .tunnelPin(hosts: hosts)
    }
}
