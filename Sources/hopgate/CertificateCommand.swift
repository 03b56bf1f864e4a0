import ArgumentParser
import Certificates
import Cluster
import Gateway
import Store

struct CertificateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cert",
        abstract: "List, show, renew, import and remove certificates.",
        discussion: """
            Of several certificates for one name the gateway serves that from a configured file, else that of the store,
            else that of the development CA. Every running replica has a change within two seconds.
            """,
        subcommands: [
            CertificateListCommand.self, CertificateShowCommand.self, CertificateImportCommand.self,
            CertificateRenewCommand.self, CertificateRemoveCommand.self,
        ]
    )
}

/// What the commands have in common.
enum CertificateTool {
    /// The certificates as a gateway with this configuration sees them.
    static func inspect(
        _ options: ConfigurationOptions
    ) async throws -> (served: ServedCertificates, store: VolumeStore) {
        let configuration = try options.load()
        let (_, store) = try await SharedStore.openExisting(configuration.store)
        return (
            try await ServedCertificates.inspect(
                configuration.servedCertificates(check: TLSIdentities.check),
                store: store
            ), store
        )
    }

    /// A name as people write it.
    static func name(_ text: String) throws -> CertificateName {
        guard let name = CertificateName(text) else {
            throw ValidationError(
                "\"\(text)\" is no name of a certificate; write app.example.com, *.example.com or an address."
            )
        }
        return name
    }

    /// Where the store has the certificate of a name, or would have it: that of a CA is called by the first of its names.
    static func key(of name: CertificateName, _ acme: ACMEConfiguration?) throws -> StoreKey {
        try (acme?.names.first { $0.contains(name) }?.first ?? name).storeKey
    }

    static func names(_ certificate: ServerCertificate?) -> String {
        certificate.map { $0.names.map(\.description).joined(separator: ",") } ?? "-"
    }
}
