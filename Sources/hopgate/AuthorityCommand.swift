import ArgumentParser
import Certificates
import Cluster
import Gateway
import Store

struct AuthorityCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ca",
        abstract: "Print the pin of the development CA's root certificate, or the certificate.",
        discussion: """
            The root is created if there is none yet, once for all replicas. Agents trust it by the certificate \
            (ca) or the pin, browsers and curl by the certificate. It is used for names that no other certificate covers.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print the root certificate itself, as PEM.")
    var pem = false

    @Flag(help: "Create a new root in the place of the present one. Every client has to be told to trust it.")
    var replace = false

    @Flag(help: "Print a JSON object.")
    var json = false

    private struct Description: Encodable {
        let store: String
        let place: String
        let sha256: String
        let pin: String
    }

    func validate() throws {
        if pem && json { throw ValidationError("--pem and --json cannot be given together.") }
    }

    func run() async throws {
        let configuration = try options.load()
        let (shared, store) = try await CommandStore.open(configuration, isFounding: true)
        defer { store.close() }
        if replace { try await Self.removeRoot(from: shared.certificates) }
        let root = try await DevelopmentRoot.obtain(in: shared.certificates)
        if pem {
            try Terminal.print(String(decoding: root.certificatePEM, as: UTF8.self), terminator: "")
        } else if json {
            let description = Description(
                store: configuration.store.path,
                place: CertificateSet.developmentCA.path,
                sha256: root.fingerprint,
                pin: root.pin
            )
            try Terminal.print(TokenDescription.json(description))
        } else {
            try Terminal.print(Terminal.table([["root", CertificateSet.developmentCA.path], ["pin", root.pin]]))
        }
    }

    private static func removeRoot(from certificates: CertificateSet) async throws {
        _ = try await certificates.withLease(of: CertificateSet.developmentCA) { lease throws(StoreError) in
            try await certificates.store.removeIfPresent(CertificateSet.developmentCA, under: lease)
        }
    }
}
