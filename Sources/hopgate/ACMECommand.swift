import ACME
import ArgumentParser
import Certificates
import Cluster
import Formats
import Gateway
import Operations
import Store

struct ACMECommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "acme",
        abstract: "Check the issuance of certificates by CAs, and manage accounts at them.",
        subcommands: [ACMECheckCommand.self, ACMEForgetAccountCommand.self]
    )

    static func settings(_ configuration: GatewayConfiguration) throws -> ACMEConfiguration {
        guard let acme = configuration.acme else {
            throw Failure(
                "ACME is not in use: the configuration has neither acme.names nor acme.on_demand.hosts. Set one of "
                    + "them; is this the gateway's configuration (--config FILE, HOPGATE_… variables)?"
            )
        }
        return acme
    }
}

struct ACMECheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Report what would keep a CA from issuing a certificate for a name. Nothing is ordered.",
        discussion: """
            Checks the name's addresses, their ports 80 and 443, whether a gateway with this store responds to a \
            challenge, and each CA's directory and account. The check runs on this machine, so it does not detect a \
            firewall between the internet and the gateway. The cluster's account is registered with a CA that does not \
            know it yet, which agrees to the CA's terms (acme.agree_to_terms).
            Exit code 0: no obstacle was found. 1: the lines with NO name the obstacles and their remedies.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("app.example.com, *.example.com, or an address.", valueName: "name"))
    var name: String

    @Option(help: ArgumentHelp("The port that the CA uses for http-01; 80 for every public CA.", valueName: "port"))
    var httpPort = 80

    @Option(
        help: ArgumentHelp("The port that the CA uses for tls-alpn-01; 443 for every public CA.", valueName: "port")
    )
    var httpsPort = 443

    func validate() throws {
        guard (1...65_535).contains(httpPort), (1...65_535).contains(httpsPort) else {
            throw ValidationError("--http-port and --https-port are numbers from 1 to 65535.")
        }
    }

    func run() async throws {
        let name = try CertificateSupport.name(name)
        let configuration = try await options.load()
        let acme = try ACMECommand.settings(configuration)
        let context = try await CommandContext.open(configuration)
        defer { context.close() }
        var ports = ACMECheck.Ports()
        ports.http = httpPort
        ports.https = httpsPort
        let findings = await ACMECheck(
            name,
            acme.renewalSettings(leaseTime: configuration.store.leaseTTL),
            dns: acme.dns,
            allowsOnDemand: { acme.onDemand.allows(.exact($0)) },
            store: context.store,
            signing: context.keyring.signing,
            ports: ports,
            version: version
        ).run()
        try Terminal.print(table: findings.map { [$0.verdict.rawValue, $0.subject, $0.message] })
        let count = findings.count { $0.verdict == .bad }
        guard count == 0 else {
            throw Failure("\(count) of \(findings.count) checks would keep a CA from issuing for \(name)")
        }
        Terminal.info("No obstacle to issuing for \(name) was found from this machine.")
    }
}

struct ACMEForgetAccountCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget-account",
        abstract: "Remove the cluster's account at a CA from the store, with its key.",
        discussion: """
            For an account that the CA has closed, or a damaged record. The next order registers a new account; the CA \
            is not told of it. Certificates are not affected.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("The CA's directory URL, if several are configured.", valueName: "url"))
    var directory: String?

    func run() async throws {
        let configuration = try await options.load()
        let configured = try ACMECommand.settings(configuration).authorities.map(\.authority.directory)
        // A CA that is no longer configured may have an account, too.
        let urls = directory.map { [ACMEURL($0)].compactMap(\.self) } ?? configured
        guard let url = urls.first, urls.count == 1 else {
            let known = configured.map(\.text).joined(separator: ", ")
            throw ValidationError("Name the CA by the URL of its directory; configured: \(known).")
        }
        let context = try await CommandContext.open(configuration)
        defer { context.close() }
        guard try await RenewalRecords(context.store).removeAccount(at: url) else {
            throw Failure("the store has no account at \(url)")
        }
        Terminal.info("Removed the record of the account at \(url) from the store; the CA was not told.")
    }
}
