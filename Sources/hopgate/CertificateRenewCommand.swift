import ArgumentParser
import Formats
import Gateway
import NIOCore
import Store

struct CertificateRenewCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "renew",
        abstract: "Order a new certificate now, regardless of the age of the present one.",
        discussion: """
            Uses the admin port of the gateway that runs with this configuration. Rate limits of the CA are respected. \
            Public CAs issue only a few certificates for the same names in a week.
            """
    )

    @OptionGroup var options: AdminOptions

    @Argument(help: ArgumentHelp("app.example.com, *.example.com, or an address.", valueName: "name"))
    var name: String

    @Option(help: ArgumentHelp("How long to wait for the result.", valueName: "duration"))
    var wait = "10m"

    func run() async throws {
        let name = try CertificateSupport.name(name)
        let timeout = TimeAmount(try Terminal.duration(wait, flag: "--wait"))
        let client = try await options.client()
        let ticket = try await client.request("POST", "/v1/renewals/\(name)")
        guard let number = ticket["ticket"]?.integer else {
            throw Failure("the gateway's answer has no ticket; is it of the same version?")
        }
        let deadline = NIODeadline.now() + timeout
        var waiting: LeaseWait?
        var isReported = false
        while NIODeadline.now() < deadline {
            let report = try client.get("/v1/renewals/\(number)")
            switch report.text("state") {
            case "ordering":
                waiting = report["lease"]?.displayText.map {
                    LeaseWait(place: $0, holder: report["lease_holder"]?.displayText, limit: deadline - .now())
                }
                if let waiting, !isReported { Terminal.reportWait(waiting) }
                isReported = isReported || waiting != nil
                try await Task.sleep(for: .milliseconds(250))
            case "issued":
                return try Terminal.print("\(name) has a new certificate, valid until \(report.text("not_after")).")
            case "held":
                throw Failure("\(name): no attempt is allowed before \(report.text("until")): \(report.text("error"))")
            default: throw Failure("\(name): \(report.text("error"))")
            }
        }
        let holder = waiting.map { "; the lease \($0.place) is held by \($0.holder ?? "another process")" } ?? ""
        throw Failure(
            "\(name): the order is still in progress after \(wait)\(holder); \"hopgate status\" shows its result"
        )
    }
}
