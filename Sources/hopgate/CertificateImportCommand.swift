import ACME
import ArgumentParser
import Certificates
import Formats
import FoundationEssentials
import Gateway
import Store

struct CertificateImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Import a certificate and its key into the store, for all replicas.",
        discussion: """
            Running gateways serve it within two seconds; open connections continue. An import under the same name \
            replaces the previous certificate. The files may be deleted afterwards.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Option(help: ArgumentHelp("PEM file with the certificate followed by its chain.", valueName: "file"))
    var cert: String

    @Option(help: ArgumentHelp("PEM file with the private key.", valueName: "file"))
    var key: String

    @Option(help: ArgumentHelp("Its name in the store (default: the certificate's first name).", valueName: "name"))
    var name: String?

    @Flag(help: "Print a JSON object.")
    var json = false

    func run() async throws {
        let configuration = try await options.load()
        let certificate = try CertificateFiles(certificate: cert, key: key).load()
        try certificate.requireOrder()
        try certificate.require(TLSIdentities.check)
        guard let first = certificate.names.first else {
            throw CertificatesError(
                .unsupported,
                cert,
                "has no host name or address as a subject alternative name, so clients would refuse it; have it issued "
                    + "again with the names of its hosts"
            )
        }
        let called = try name.map { try CertificateSupport.name($0) } ?? first
        let place = try called.storeKey
        let context = try await CommandContext.open(configuration, isFounding: true)
        defer { context.close() }
        let certificates = context.certificates
        let version = try await certificates.withLease(of: place) { lease throws(StoreError) in
            try await certificates.write(certificate, as: place, origin: "import", under: lease)
        }
        let status = CertificateStatus(
            source: .store,
            place: place.path,
            version: version,
            origin: "import",
            certificate: certificate
        )
        try json ? Terminal.print(status.document(now: Date())) : Terminal.print("\(place)/\(version)")
        report(status, configuration)
    }

    /// Reports the certificate's names and validity, and which of the names a configured file takes precedence for.
    private func report(_ status: CertificateStatus, _ configuration: GatewayConfiguration) {
        guard let certificate = status.certificate else { return }
        let (start, end) = (certificate.notValidBefore, certificate.notValidAfter)
        Terminal.info("Names \(CertificateSupport.names(certificate)); valid until \(CertificateStatus.time(end)).")
        let now = Int64(Date().timeIntervalSince1970)
        if now > end {
            Terminal.info(
                "Warning: it expired at \(CertificateStatus.time(end)). Gateways serve it, but clients refuse it: import "
                    + "its successor."
            )
        } else if now < start {
            Terminal.info(
                "Warning: it is not valid before \(CertificateStatus.time(start)). Gateways serve it, but until then "
                    + "clients refuse it: check this machine's clock, or import a valid one."
            )
        }
        let files = configuration.certificates.compactMap { try? $0.load() }
        guard !files.isEmpty else { return }
        let configured = CertificateSnapshot(files)
        let hidden = certificate.names.filter { configured.certificate(for: $0)?.names.contains($0) == true }
        guard !hidden.isEmpty else { return }
        let names = hidden.map(\.description).joined(separator: ", ")
        Terminal.info(
            "A gateway with this configuration serves \(names) from a configured file, which takes precedence."
        )
    }
}
