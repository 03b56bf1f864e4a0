import Formats
import Logging
import NIOCore
import Observability
package import Settings

extension AgentConfiguration {
    /// Reads the configuration: flags over `HOPAGENT_…` variables over the file over defaults.
    ///
    /// - Parameters:
    ///   - file: The path of a YAML file. If it is `nil`, the variable `HOPAGENT_CONFIG` names the file, if it is set.
    ///   - environment: The process's whole environment.
    ///   - flags: The flags by key (`max-requests` or `max_requests`), and the short ones `gateway`, `service`, `host`
    ///     (lists joined by commas), `ca-file`, `pin`.
    /// - Throws: All problems at once. None of them contains the token.
    package static func load(
        file: String?,
        environment: [String: String],
        flags: [String: String]
    ) throws(SettingsError) -> AgentConfiguration {
        try read(file: file, environment: environment, flags: flags).configuration
    }

    /// Renders a table of every setting with its effective value and the source of the value, without secrets.
    ///
    /// - Parameters: As for ``load(file:environment:flags:)``.
    /// - Throws: All problems at once.
    package static func check(
        file: String?,
        environment: [String: String],
        flags: [String: String]
    ) throws(SettingsError) -> String {
        try read(file: file, environment: environment, flags: flags).effective.table
    }

    /// Reads `ops_listen` alone, so that a health check needs neither the token nor any other setting.
    ///
    /// - Parameters: As for ``load(file:environment:flags:)``.
    /// - Returns: The address, or `nil` if the listener is off.
    package static func opsListen(
        file: String?,
        environment: [String: String],
        flags: [String: String]
    ) throws(SettingsError) -> ListenAddress? {
        let reader = SettingsReader(prefix: "HOPAGENT", file: file, environment: environment, flags: flags)
        let address = readOpsListen(reader.root)
        try reader.requireNoProblems()
        return address.value
    }

    private static func readOpsListen(_ root: SettingsScope) -> Setting<ListenAddress?> {
        root.value(
            "ops_listen",
            default: .some(defaultOpsListen),
            show: { $0.map { "\($0)" } ?? "off" },
            parse: parseOptionalAddress
        )
    }

    private static func read(
        file: String?,
        environment: [String: String],
        flags: [String: String]
    ) throws(SettingsError) -> (configuration: AgentConfiguration, effective: [EffectiveSetting]) {
        let reader = SettingsReader(prefix: "HOPAGENT", file: file, environment: environment, flags: flags)
        let root = reader.root

        let identity = readIdentity(root)
        let listed = readGateways(root, identity)
        let name = root.value("name", default: ProcessName.standard(environment: environment, fallback: "agent")) {
            text throws(FormatError) in
            try Scalars.name(text, longest: 253)
        }
        let targetHosts = root.list("target_hosts", parse: parseTargetHost)
        let services = readServices(root, targetHosts: targetHosts.map(\.value))
        let hosts = root.list("hosts", flag: "host", parse: HostPattern.canonicalText)
        let trust = readTrust(root.section("trust"), reader, join: identity.join)
        let serverName = root.optional("server_name", absent: "the gateway's host", parse: parseServerName)
        let ops = readOpsListen(root)
        let maxRequests = root.int("max_requests", default: 1000, in: 1...100_000)
        let logLevel = root.choice("log_level", default: Logger.Level.info)
        let logFormat = root.choice("log_format", default: LogFormat.auto)
        let grace = root.duration("shutdown_grace", default: .seconds(30), in: .zero ... .seconds(3600))

        try reader.finish()
        guard let token = identity.token else { preconditionFailure("finish() throws if there is no token") }
        let gateways = listed.isEmpty ? identity.join?.value.gateways ?? [] : listed
        var result = AgentConfiguration(gateways: gateways, token: token, name: name.value, services: services)
        // A pipe has been read to its end.
        if case .contents(let path, _, _) = identity.origin, isRegularFile(path) {
            result.identityFile = IdentityFile(
                key: identity.isJoined ? "join_file" : "token_file",
                path: path,
                definesGateways: identity.isJoined && listed.isEmpty,
                definesTrust: identity.isJoined && (trust.origin == .fallback || trust.origin == identity.origin)
            )
        }
        result.hosts = hosts.map(\.value)
        result.trust = trust.value
        result.serverName = serverName?.value
        result.opsListen = ops.value
        result.opsListenIsExplicit = ops.origin != .fallback
        result.maxRequests = maxRequests.value
        result.targetHosts = targetHosts.map(\.value)
        result.logLevel = logLevel.value
        result.logFormat = logFormat.value
        result.shutdownGrace = TimeAmount(grace.value)
        return (result, reader.effective)
    }

    /// Reads the gateways that override those of a join string.
    private static func readGateways(_ root: SettingsScope, _ identity: Identity) -> [HostPort] {
        let joined = identity.join?.value.gateways ?? []
        let absent = joined.isEmpty ? "none" : joined.map(\.description).joined(separator: ", ") + " (by join)"
        // A join string contains the gateways, so that they are not missing even if it is invalid.
        let isRequired = !identity.isJoined
        let gateways = root.list("gateways", flag: "gateway", isRequired: isRequired, absent: absent) {
            text throws(FormatError) in
            try HostPort.parse(
                text,
                defaultPort: defaultGatewayPort,
                remedy: "Write HOST or HOST:PORT, as in gateway.example.com:8443."
            )
        }
        for (index, gateway) in gateways.enumerated() {
            guard let first = gateways[..<index].first(where: { $0.value == gateway.value }) else { continue }
            let problem = FormatError("\(gateway.value) is already listed at \(first.origin)", "Keep one of the two.")
            root.report("gateways[\(index)]", gateway.origin, problem)
        }
        return gateways.map(\.value)
    }

    private static func readServices(_ root: SettingsScope, targetHosts: [String]) -> [ServiceDefinition] {
        func parse(_ name: String, _ text: String) throws(FormatError) -> ServiceDefinition {
            let name = try Scalars.name(name)
            let target = try parseTarget(text)
            guard target.isLoopback || targetHosts.contains(target.host) else {
                throw FormatError(
                    "\(quoted(text)) is not on this host's loopback address",
                    "If it is intended, list \(quoted(target.host)) under target_hosts, "
                        + "or give --target-hosts \(shellWord(target.host))."
                )
            }
            return ServiceDefinition(name: name, target: target)
        }
        let services = root.map(
            "services",
            flag: "service",
            isRequired: true,
            show: { "\($0.target)" },
            parse: parse
        )
        return services.map(\.value.value)
    }

    /// Parses `8080` or `127.0.0.1:8080`.
    private static func parseTarget(_ text: String) throws(FormatError) -> HostPort {
        let remedy = "Write a port or HOST:PORT, as in 8080 or 127.0.0.1:8080."
        let port = text.hasPrefix(":") ? String(text.dropFirst()) : text
        if !port.isEmpty, port.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
            return try HostPort.parse("127.0.0.1:\(port)", defaultPort: nil, remedy: remedy)
        }
        return try HostPort.parse(text, defaultPort: nil, remedy: remedy)
    }

    private static func parseTargetHost(_ text: String) throws(FormatError) -> String {
        if let address = IPAddressText.canonicalIPv6(text) { return address }
        guard IPAddressText.isIPv4(text) || DNSName.isHostName(text) else {
            throw FormatError("\(quoted(text)) is not a host", "Write a host name or address, without a port.")
        }
        return text.lowercased()
    }

    private static func parseServerName(_ text: String) throws(FormatError) -> String {
        if let address = IPAddressText.canonicalIPv6(text) { return address }
        guard IPAddressText.isIPv4(text) || DNSName.isHostName(text) else {
            throw FormatError("\(quoted(text)) is not a host name", "Write the name in the gateway's certificate.")
        }
        return text.lowercased()
    }

    private static func parseOptionalAddress(_ text: String) throws(FormatError) -> ListenAddress? {
        text == "off" ? nil : try ListenAddress.parse(text)
    }
}
