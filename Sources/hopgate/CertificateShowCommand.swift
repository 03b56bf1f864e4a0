import ArgumentParser
import Certificates
import FoundationEssentials
import Store

struct CertificateShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show the certificate that is served for a name.",
        discussion: "For a name that only the development CA covers its root is shown. Private keys are never printed."
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("app.example.com, *.example.com, or an address.", valueName: "name"))
    var name: String

    @Flag(help: "Print a JSON object.")
    var json = false

    @Flag(help: "Print the certificate and its chain, as PEM.")
    var pem = false

    func validate() throws {
        if pem && json { throw ValidationError("--pem and --json cannot be given together.") }
    }

    func run() async throws {
        let wanted = try CertificateTool.name(name)
        let (served, store) = try await CertificateTool.inspect(options)
        defer { store.close() }
        let key = try wanted.storeKey.path
        let statuses = served.statuses
        let covering = served.certificate(for: wanted)
        let found =
            statuses.first { covering != nil && $0.certificate === covering }
            // There may be one of that key which cannot be used.
            ?? statuses.first { $0.place == key }
            ?? statuses.first { $0.source == .development }
        guard let found else {
            throw Failure(
                "no certificate covers \(wanted); import one with: hopgate cert import --cert FILE --key FILE"
            )
        }
        if pem {
            guard let certificate = found.certificate else {
                throw Failure("\(found.place): \(found.state(now: Date()))")
            }
            print(String(decoding: certificate.chainPEM, as: UTF8.self), terminator: "")
        } else if json {
            print(Terminal.json(.object(found.document(now: Date()))))
        } else {
            print(Terminal.table(Self.rows(found)))
        }
        if let problem = found.problem { throw Failure("\(problem)") }
    }

    private static func rows(_ status: CertificateStatus) -> [[String]] {
        var rows = [
            ["source", status.source.rawValue], ["state", status.state(now: Date())], ["place", status.place],
        ]
        if let generation = status.generation { rows.append(["generation", "\(generation)"]) }
        if let origin = status.origin { rows.append(["origin", origin]) }
        guard let certificate = status.certificate else { return rows }
        if !certificate.names.isEmpty { rows.append(["names", CertificateTool.names(certificate)]) }
        return rows + [
            ["issuer", certificate.issuer],
            ["not before", CertificateStatus.time(certificate.notValidBefore)],
            ["not after", CertificateStatus.time(certificate.notValidAfter)],
            ["sha256", certificate.leafSHA256.hexadecimal],
        ]
    }
}
