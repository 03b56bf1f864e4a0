import ArgumentParser
import Formats
import Gateway
import NIOCore
import Store

struct CertificateRenewCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "renew",
        abstract: "Order a new certificate now, whatever the age of the present one.",
        discussion: """
            Asks the gateway that runs with this configuration, by its admin port. A limit of the CA's is respected. Public \
            CAs issue few certificates for the same names in a week.
            """
    )

    @OptionGroup var options: AdminOptions

    @Argument(help: ArgumentHelp("app.example.com, *.example.com, or an address.", valueName: "name"))
    var name: String

    @Option(help: ArgumentHelp("How long to wait for the outcome.", valueName: "duration"))
    var wait = "10m"

    func run() async throws {
        let name = try CertificateTool.name(name)
        let patience = TimeAmount(try Terminal.duration(wait, flag: "--wait"))
        let client = try await options.client()
        let ticket = try client.post("/v1/renewals/\(name)")
        guard let number = ticket["ticket"]?.integer else { throw Failure("the gateway gave no ticket") }
        let deadline = NIODeadline.now() + patience
        while NIODeadline.now() < deadline {
            let report = try client.get("/v1/renewals/\(number)")
            switch report.text("state") {
            case "ordering": try await Task.sleep(for: .milliseconds(250))
            case "issued":
                return print("\(name) has a new certificate, good until \(report.text("not_after")).")
            case "held":
                throw Failure("\(name): no attempt is allowed before \(report.text("until")): \(report.text("error"))")
            default: throw Failure("\(name): \(report.text("error"))")
            }
        }
        throw Failure("\(name): the order is still under way after \(wait); \"hopgate status\" tells what comes of it")
    }
}
