import ACME
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
            For a certificate from a CA this includes the next renewal and the last error, also if none was issued \
            yet. For a name that only the development CA covers, its root is shown. Private keys are never printed.
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
        let wanted = try CertificateSupport.name(name)
        let context = try await CommandContext.open(try await options.load())
        defer { context.close() }
        let called = try CertificateSupport.key(of: wanted, context.configuration.acme)
        let settings = context.configuration.servedCertificates(check: TLSIdentities.check)
        var found = try await ServedCertificates.inspect(called, for: wanted, settings, store: context.certificates)
        var isCovered = found != nil
        if found == nil {
            // It may be one of several names, covered by a wildcard, or in a file.
            let served = try await context.servedCertificates()
            let covering = served.certificate(for: wanted)
            found =
                served.statuses.first { covering != nil && $0.certificate === covering }
                // The certificate of that key may be unusable, so that it covers no name.
                ?? served.statuses.first { $0.place == called.path }
                ?? served.statuses.first { $0.source == .development }
            isCovered = served.covers(wanted)
        }
        if found == nil || found?.source == .development {
            // A gateway orders a certificate for the name, or has failed to.
            let isConfigured = context.orderedCertificates[called] != nil
            let issuing = try await CertificateIssuanceReport(
                called,
                nil,
                authorities: isConfigured ? context.authorities : [],
                in: context.store
            )
            if isConfigured || issuing.hasFailed { return try reportMissing(issuing, wanted) }
        }
        let remedy = "import one with: hopgate cert import --cert FILE --key FILE"
        guard let found else { throw Failure("no certificate covers \(wanted); \(remedy)") }
        if found.source == .development, found.problem == nil, !isCovered {
            throw Failure(
                "no certificate covers \(wanted): the development CA creates one as soon as a route, tunnel_addresses "
                    + "or an attached agent names this host; until then the fallback is served. Otherwise, \(remedy)"
            )
        }
        if found.source == .development {
            Terminal.info(
                "No other certificate covers \(wanted): gateways create one by the development CA, whose root this is. "
                    + "To trust it: hopgate ca. For another one: hopgate cert import, or acme.names."
            )
        }
        let issuing = try await CertificateIssuanceReport(found, in: context.store)
        if pem {
            guard let certificate = found.certificate else {
                throw Failure("\(found.place): \(found.state(now: Date()))")
            }
            try Terminal.print(String(decoding: certificate.chainPEM, as: UTF8.self), terminator: "")
        } else if json {
            try Terminal.print(found.document(now: Date()).merging(issuing?.fields ?? [:]) { $1 })
        } else {
            try Terminal.print(table: Self.rows(found) + (issuing?.rows ?? []))
        }
        if let problem = found.problem { throw Failure("\(problem)") }
    }

    /// Prints the state of a certificate that does not exist yet, with the last error of ordering it, and fails.
    private func reportMissing(_ issuing: CertificateIssuanceReport, _ name: CertificateName) throws {
        let state = CertificateStatus.notIssued
        if pem {
            // There is none to print.
        } else if json {
            let fields: [String: JSONValue] = ["place": .string(issuing.key.path), "state": .string(state)]
            try Terminal.print(fields.merging(issuing.fields) { $1 })
        } else {
            try Terminal.print(table: [["state", state], ["place", issuing.key.path]] + issuing.rows)
        }
        let hint =
            issuing.hasFailed
            ? ""
            : "; a running gateway orders it. To see what a CA would see: hopgate acme check \(shellWord("\(name)"))"
        throw Failure("the certificate for \(name) \(state)\(hint)")
    }

    private static func rows(_ status: CertificateStatus) -> [[String]] {
        var rows = [
            ["source", status.source.rawValue], ["state", status.state(now: Date())], ["place", status.place],
        ]
        if let version = status.version { rows.append(["version", "\(version)"]) }
        if let origin = status.origin { rows.append(["origin", origin]) }
        guard let certificate = status.certificate else { return rows }
        if !certificate.names.isEmpty { rows.append(["names", CertificateSupport.names(certificate)]) }
        return rows + [
            ["issuer", certificate.issuer],
            ["not before", CertificateStatus.time(certificate.notValidBefore)],
            ["not after", CertificateStatus.time(certificate.notValidAfter)],
            ["sha256", Hex.string(certificate.leafSHA256)],
        ]
    }
}
