import ArgumentParser
import Formats
import Gateway

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the state of the gateway that runs with this configuration.",
        discussion: """
            Shows its store, its cluster, its certificates and its attached agents. Uses the admin port.
            "hopgate cert show NAME" shows the remedy for an error of a CA.
            """
    )

    @OptionGroup var options: AdminOptions

    @Flag(help: "Print the answer as a JSON object.")
    var json = false

    func run() async throws {
        let client = try await options.client()
        let status = try client.get("/v1/status")
        if json { return print(String(decoding: status.json, as: UTF8.self)) }
        let certificates = try client.get("/v1/certificates")
        let agents = try client.get("/v1/agents")
        print(Terminal.table(Self.rows(status)))
        for table in [Self.certificates(certificates), Self.agents(agents)] where table.count > 1 {
            print("\n" + Terminal.table(table))
        }
    }

    private static func rows(_ status: [String: JSONValue]) -> [[String]] {
        let store = status["store"]?.fields ?? [:]
        let cluster = status["cluster"]?.fields ?? [:]
        var rows = [
            ["gateway", "\(status.text("name")) (\(status.text("version"))), \(status.text("incarnation"))"],
            ["stage", "\(status.text("stage")), up \(status.text("uptime_seconds")) s"],
            ["store", "\(store.text("state")), \(store.text("driver")) \(store.text("path", absent: ""))"],
        ]
        if store["last_error"]?.string != nil { rows.append(["", store.text("last_error")]) }
        let place = cluster["key_on_volume"] == .bool(true) ? "on the volume" : "not on the volume"
        rows += [
            ["cluster", "\(cluster.text("id")), key \(cluster["keys"]?.strings?.first ?? "?") \(place)"],
            ["replicas", "\(status.text("replicas")) live"],
            ["agents", status.text("agents")],
            ["connections", status.text("connections")],
        ]
        return rows
    }

    private static func agents(_ answer: [String: JSONValue]) -> [[String]] {
        let header = ["AGENT", "INSTANCE", "TOKEN", "SERVICES", "HOSTS", "REQUESTS", "SECONDS"]
        return [header]
            + (answer["agents"]?.objects ?? []).map { agent in
                let hosts = agent["hosts"]?.strings ?? []
                return [
                    agent.text("name"), agent.text("instance"), agent.text("token_id"),
                    (agent["services"]?.strings ?? []).joined(separator: ","),
                    hosts.isEmpty ? "-" : hosts.joined(separator: ","),
                    agent.text("requests_in_flight"), agent.text("attached_seconds"),
                ]
            }
    }
}

/// The options of commands that use the admin port.
struct AdminOptions: ParsableArguments {
    @OptionGroup var configuration: ConfigurationOptions

    @Option(help: ArgumentHelp("The address on which the gateway serves its admin port.", valueName: "host:port"))
    var adminListen: String?

    func client() async throws -> AdminClient {
        try await AdminClient(try configuration.load(adminListen.map { ["admin_listen": $0] } ?? [:]))
    }
}
