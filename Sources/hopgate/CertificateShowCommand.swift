import ArgumentParser
import Certificates
import Formats
import FoundationEssentials
import Gateway
import Store

struct CertificateShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show the certificate that is served for a name.",
        discussion: """
            Of a certificate from a CA also when it is renewed, and what went wrong last. For a name that only the \
            development CA covers its root is shown; where a CA has refused a certificate, why. Private keys are never \
            printed.
            """
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
        let called = try CertificateTool.key(of: wanted, try options.load().acme)
        let key = called.path
        let statuses = served.statuses
        let covering = served.certificate(for: wanted)
        let found =
            statuses.first { covering != nil && $0.certificate === covering }
            // There may be one of that key which cannot be used.
            ?? statuses.first { $0.place == key }
            ?? statuses.first { $0.source == .development }
        if found == nil || found?.source == .development {
            // A certificate for it may have been ordered in vain.
            let issuing = try await CertificateIssuing(called, nil, in: store)
            if issuing.hasFailed { return try Self.tell(issuing, wanted, json: json) }
        }
        guard let found else {
            throw Failure(
                "no certificate covers \(wanted); import one with: hopgate cert import --cert FILE --key FILE"
            )
        }
        let issuing = try await CertificateIssuing(found, in: store)
        if pem {
            guard let certificate = found.certificate else {
                throw Failure("\(found.place): \(found.state(now: Date()))")
            }
            print(String(decoding: certificate.chainPEM, as: UTF8.self), terminator: "")
        } else if json {
            let fields = found.document(now: Date()).merging(issuing?.fields ?? [:]) { $1 }
            print(Terminal.json(.object(fields)))
        } else {
            print(Terminal.table(Self.rows(found) + (issuing?.rows ?? [])))
        }
        if let problem = found.problem { throw Failure("\(problem)") }
    }

    /// What is not there, and why.
    private static func tell(_ issuing: CertificateIssuing, _ name: CertificateName, json: Bool) throws {
        let state = "is not issued yet"
        if json {
            let fields: [String: JSONValue] = ["place": .string(issuing.key.path), "state": .string(state)]
            print(Terminal.json(.object(fields.merging(issuing.fields) { $1 })))
        } else {
            print(Terminal.table([["state", state], ["place", issuing.key.path]] + issuing.rows))
        }
        throw Failure("the certificate for \(name) \(state)")
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
