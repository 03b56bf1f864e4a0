import ACME
import ArgumentParser
import Certificates
import Gateway
import Store

struct CertificateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cert",
        abstract: "List, show, renew, import and remove certificates.",
        discussion: """
            Of several certificates for one name the gateway serves the one from a configured file, else the one in \
            the store, else one of the development CA. Every running replica applies a change within two seconds.
            """,
        subcommands: [
            CertificateListCommand.self, CertificateShowCommand.self, CertificateImportCommand.self,
            CertificateRenewCommand.self, CertificateRemoveCommand.self,
        ]
    )
}

/// Functions that the `cert` commands share.
enum CertificateSupport {
    /// Parses the name of a certificate from an argument, which may be its place in the store, as `cert list` shows it.
    static func name(_ text: String) throws -> CertificateName {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        let isPlace = parts.first == "certs" && (parts.count == 2 || parts.count == 3 && UInt64(parts[2]) != nil)
        let place = isPlace ? try? StoreKey("certs/\(parts[1])") : nil
        guard let name = place.flatMap(CertificateName.init(storeKey:)) ?? CertificateName(text) else {
            throw ValidationError(
                "\"\(text)\" is not a name for a certificate; write app.example.com, *.example.com or an address."
            )
        }
        return name
    }

    /// The key under which the store keeps the certificate for a name. One from a CA is stored under the first of its
    /// names.
    static func key(of name: CertificateName, _ acme: ACMEConfiguration?) throws -> StoreKey {
        try (acme?.names.first { $0.contains(name) }?.first ?? name).storeKey
    }

    /// The names of a certificate, separated by commas.
    static func names(_ certificate: ServerCertificate?) -> String {
        certificate.map { $0.names.map(\.description).joined(separator: ",") } ?? "-"
    }
}

extension CommandContext {
    /// The names of the certificates in `acme.names`, by the key in the store.
    var orderedCertificates: [StoreKey: [CertificateName]] {
        let all = (configuration.acme?.names ?? []).compactMap { names in
            names.first.flatMap { try? $0.storeKey }.map { ($0, names) }
        }
        return Dictionary(all) { first, _ in first }
    }

    /// The directory URLs of the configured CAs.
    var authorities: [String] { configuration.acme?.authorities.map(\.authority.id) ?? [] }

    /// Loads the certificates that a gateway with this configuration serves.
    func servedCertificates() async throws -> ServedCertificates {
        let settings = configuration.servedCertificates(check: TLSIdentities.check)
        return try await ServedCertificates.inspect(settings, store: certificates)
    }
}
