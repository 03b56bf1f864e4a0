import ArgumentParser
import Certificates
import Cluster
import Gateway
import Operations
import Store

struct ACMECommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "acme",
        abstract: "Certificates from CAs.",
        subcommands: [ACMECheckCommand.self]
    )
}

struct ACMECheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Say what would keep a CA from issuing a certificate for a name. Nothing is ordered.",
        discussion: """
            Looks at the name's addresses, at port 80 and 443 there, whether a challenge is answered by a gateway with this \
            store, and at each CA's directory and account. It looks from this machine: a firewall before the internet is \
            not seen. A CA that does not know the cluster's account yet is given it, and its terms are agreed to \
            (acme.agree_to_terms).
            Exit code 0: nothing was found. 1: the lines with NO say what to mend.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("app.example.com, *.example.com, or an address.", valueName: "name"))
    var name: String

    @Option(help: ArgumentHelp("Where the CA asks for http-01; 80 for every public CA.", valueName: "port"))
    var httpPort = 80

    @Option(help: ArgumentHelp("Where the CA asks for tls-alpn-01; 443 for every public CA.", valueName: "port"))
    var httpsPort = 443

    func validate() throws {
        guard (1...65_535).contains(httpPort), (1...65_535).contains(httpsPort) else {
            throw ValidationError("--http-port and --https-port are numbers from 1 to 65535.")
        }
    }

    func run() async throws {
        let name = try CertificateTool.name(name)
        let configuration = try options.load()
        guard let acme = configuration.acme else {
            throw Failure("ACME is not in use: set acme.names, or acme.on_demand.hosts, in the gateway's configuration")
        }
        let (_, store) = try await SharedStore.openExisting(configuration.store)
        defer { store.close() }
        var ports = ACMECheck.Ports()
        ports.http = httpPort
        ports.https = httpsPort
        let settings = ACMECheck.Settings(
            certificates: acme.names,
            allowsOnDemand: { acme.onDemand.allows(.exact($0)) },
            challenges: acme.challenges,
            dns: acme.dns,
            profile: acme.profile,
            authorities: acme.renewalAuthorities
        )
        let findings = await ACMECheck(name, settings, store: store, ports: ports, version: version).run()
        print(Terminal.table(findings.map { [$0.verdict.rawValue, $0.subject, $0.message] }))
        let count = findings.count { $0.verdict == .bad }
        guard count == 0 else {
            throw Failure("\(count) of \(findings.count) would keep a CA from issuing for \(name)")
        }
        Terminal.note("Nothing would keep a CA from issuing for \(name), as far as it can be seen from here.")
    }
}
