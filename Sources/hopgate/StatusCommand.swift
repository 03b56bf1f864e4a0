import ArgumentParser
import Cluster
import Formats
import Gateway

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the state of the gateway that runs with this configuration.",
        discussion: """
            Shows its store, its cluster, and the certificates and agents that need attention most, at most 20 of each.
            Uses the admin port.
            "hopgate cert show NAME" shows the remedy for an error of a CA.
            """
    )

    @OptionGroup var options: AdminOptions

    @Flag(help: "Show every certificate and agent.")
    var all = false

    @Flag(help: "Print a JSON object; with --all one line for the gateway, each certificate and each agent.")
    var json = false

    func run() async throws {
        let client = try await options.client()
        let status = try await client.request("GET", "/v1/status")
        if json {
            guard all else { return try Terminal.print(status) }
            try Terminal.print(["gateway": .object(status)])
            for (name, item) in [("certificates", "certificate"), ("agents", "agent")] {
                try client.pages(name) { page in
                    guard !page.isEmpty else { return }
                    let lines = page.map { Terminal.json(.object([item: .object($0)])) }
                    try Terminal.print(lines.joined(separator: "\n"))
                }
            }
            return
        }
        try Terminal.print(table: Self.rows(status))
        try show("certificates", Self.certificates, status, client)
        try show("agents", Self.agents, status, client)
    }

    /// Prints the table of a list: the entries of the summary, or all.
    private func show(
        _ name: String,
        _ table: ([[String: JSONValue]]) -> [[String]],
        _ status: [String: JSONValue],
        _ client: AdminClient
    ) throws {
        var entries = status["worst_\(name)"]?.objects ?? []
        if all {
            entries = []
            try client.pages(name) { entries += $0 }
        }
        guard !entries.isEmpty else { return }
        try Terminal.print("\n" + Terminal.table(table(entries)))
        let more = (status[name]?.integer ?? 0) - Int64(entries.count)
        if !all, more > 0 { try Terminal.print("and \(more) more; --all shows them") }
    }

    private static func rows(_ status: [String: JSONValue]) -> [[String]] {
        let store = status["store"]?.object ?? [:]
        let cluster = status["cluster"]?.object ?? [:]
        var rows = [
            ["gateway", "\(status.text("name")) (\(status.text("version"))), \(status.text("incarnation"))"],
            ["stage", "\(status.text("stage")), up \(status.text("uptime_seconds")) s"],
            ["store", "\(store.text("state")), \(store.text("driver")) \(store.text("path", absent: ""))"],
        ]
        if store["last_error"]?.string != nil { rows.append(["", store.text("last_error")]) }
        let key = cluster["keys"]?.strings?.first ?? "?"
        let onVolume = cluster["keys_on_volume"]?.strings ?? []
        let place = onVolume.contains(key) ? "on the volume" : "not on the volume"
        let others = onVolume.filter { $0 != key }
        let rest = others.isEmpty ? "" : "; also valid and on the volume: \(others.joined(separator: ", "))"
        rows += [
            ["cluster", "\(cluster.text("id")), key \(key) \(place)\(rest)"],
            ["replicas", "\(status.text("replicas")) live" + states(status, "replica_states")],
            ["certificates", status.text("certificates") + states(status, "certificate_states")],
            ["agents", status.text("agents") + states(status, "agent_states")],
            ["connections", status.text("connections")],
        ]
        rows += (status["warnings"]?.array ?? []).map { ["warning", $0.displayText ?? "?"] }
        return rows
    }

    /// The number in each state, largest first, such as " (3 active, 1 dead)".
    private static func states(_ status: [String: JSONValue], _ name: String) -> String {
        let counts = (status[name]?.object ?? [:]).compactMap { state, count in
            count.integer.flatMap { $0 > 0 ? (state: state.replacing("_", with: " "), count: $0) : nil }
        }
        guard !counts.isEmpty else { return "" }
        let inOrder = counts.sorted { ($1.count, $0.state) < ($0.count, $1.state) }
        return " (" + inOrder.map { "\($0.count) \($0.state)" }.joined(separator: ", ") + ")"
    }

    /// The table of attachments with its header.
    private static func agents(_ entries: [[String: JSONValue]]) -> [[String]] {
        [["AGENT", "INSTANCE", "STATE", "TOKEN", "SERVICES", "HOSTS", "REQUESTS", "SECONDS"]]
            + entries.map { agent in
                let hosts = agent["hosts"]?.strings ?? []
                return [
                    agent.text("name"), agent.text("instance"), agent.text("state"), agent.text("token_id"),
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

    /// Creates a client, and names the store of the configuration on standard error.
    func client() async throws -> AdminClient {
        let configuration = try await configuration.load(adminListen.map { ["admin_listen": $0] } ?? [:])
        if configuration.store.driver == .volume { Terminal.info("Store \(configuration.store.path).") }
        return try await AdminClient(configuration)
    }
}
