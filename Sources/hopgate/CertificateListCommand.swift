import ACME
import ArgumentParser
import Certificates
import Formats
import FoundationEssentials
import Store

struct CertificateListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the certificates of all sources, the source with the highest precedence first."
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print a JSON array.")
    var json = false

    func run() async throws {
        let context = try await CommandContext.open(try await options.load())
        defer { context.close() }
        let now = Date()
        let statuses = try await context.servedCertificates().statuses
        let places = Set(statuses.map(\.place))
        let missing = context.orderedCertificates.filter { !places.contains($0.key.path) }.sorted { $0.key < $1.key }
        if json {
            let others = missing.map { key, names -> JSONValue in
                .object([
                    "source": .string(CertificateSource.store.rawValue), "place": .string(key.path),
                    "state": .string(CertificateStatus.notIssued),
                    "names": .array(names.map { .string($0.description) }),
                ])
            }
            try Terminal.print(.array(statuses.map { .object($0.document(now: now)) } + others))
        } else if statuses.isEmpty, missing.isEmpty {
            Terminal.info("There are no certificates; a start with \"development_ca: auto\" creates a development CA.")
        } else {
            let rows = statuses.map { status in
                [
                    status.source == .development ? "(root)" : CertificateSupport.names(status.certificate),
                    status.source.rawValue,
                    status.certificate.map { CertificateStatus.time($0.notValidAfter) } ?? "-",
                    status.state(now: now),
                    status.version.map { "\(status.place)/\($0)" } ?? status.place,
                    status.certificate.map { String(Hex.string($0.leafSHA256).prefix(16)) } ?? "-",
                    status.certificate?.issuer ?? "-",
                ]
            }
            let others = missing.map { key, names in
                let all = names.map(\.description).joined(separator: ",")
                return [all, CertificateSource.store.rawValue, "-", CertificateStatus.notIssued, key.path, "-", "-"]
            }
            try Terminal.print(
                table: [["NAMES", "SOURCE", "NOT AFTER", "STATE", "PLACE", "SHA256", "ISSUER"]] + rows + others
            )
        }
        let problems = statuses.compactMap(\.problem)
        guard problems.isEmpty else {
            throw Failure("some certificates cannot be used:\n" + problems.map(\.description).joined(separator: "\n"))
        }
    }
}
