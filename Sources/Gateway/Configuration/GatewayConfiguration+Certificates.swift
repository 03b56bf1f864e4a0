import ACME
package import Certificates
package import Cluster
import Settings
import Store

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

    /// The pin by which agents that connect to these hosts verify a gateway with this configuration: the SHA-256 digest
    /// of the development root, which is created if it does not exist. Returns `nil` unless the development CA's
    /// certificate is presented at all of these hosts; then agents use their system roots, or what they are configured
    /// with.
    ///
    /// If ACME will issue a certificate for a host, no pin is given from the start: it would become wrong with the
    /// first certificate, and agents that use it could no longer connect.
    package func tunnelPin(
        hosts: [String],
        in set: CertificateSet,
        check: @escaping @Sendable (ServerCertificate) throws -> Void
    ) async throws(CertificatesError) -> [UInt8]? {
        guard usesDevelopmentCA, acme?.mayAnswer(at: hosts) != true else { return nil }
        return try await ServedCertificates.open(servedCertificates(check: check), store: set)
            .tunnelPin(hosts: hosts)
    }
}

extension SharedStore {
    /// The certificates in the store.
    package var certificates: CertificateSet { CertificateSet(store, leaseTime: leaseTime) { [self] in keyring } }
}
