import Certificates
import Cluster
import Formats
import Logging
import NIOCore
import Observability
package import Settings

extension GatewayConfiguration {
    /// Reads the configuration. Flags take precedence over `HOPGATE_…` variables, these over the file, the file over
    /// the defaults.
    ///
    /// - Parameters:
    ///   - file: A YAML file, or `nil` for the one that the variable `HOPGATE_CONFIG` names, if any.
    ///   - environment: The environment of the process.
    ///   - flags: The command line flags by key (`https-listen` or `https_listen`).
    /// - Throws: All problems together.
    package static func load(
        file: String?,
        environment: [String: String],
        flags: [String: String]
    ) throws(SettingsError) -> GatewayConfiguration {
        try read(file: file, environment: environment, flags: flags).configuration
    }

    /// The output of `hopgate config check`: every setting with its effective value and its origin. Contains no
    /// secrets.
    package static func check(
        file: String?,
        environment: [String: String],
        flags: [String: String]
    ) throws(SettingsError) -> String {
        try read(file: file, environment: environment, flags: flags).effective.table
    }

    /// Reads `ops_listen` alone, so that a health check does not depend on the other settings and their files.
    ///
    /// - Parameters: As for ``load(file:environment:flags:)``.
    package static func opsListen(
        file: String?,
        environment: [String: String],
        flags: [String: String]
    ) throws(SettingsError) -> ListenAddress {
        let reader = SettingsReader(prefix: "HOPGATE", file: file, environment: environment, flags: flags)
        let address = reader.root.address("ops_listen", default: GatewayConfiguration().opsListen)
        try reader.requireNoProblems()
        return address.value
    }

    private static func read(
        file: String?,
        environment: [String: String],
        flags: [String: String]
    ) throws(SettingsError) -> (configuration: GatewayConfiguration, effective: [EffectiveSetting]) {
        let reader = SettingsReader(prefix: "HOPGATE", file: file, environment: environment, flags: flags)
        let root = reader.root
        var result = GatewayConfiguration()

        let http = root.address("http_listen", default: result.httpListen)
        let https = root.address("https_listen", default: result.httpsListen)
        let dtls = root.address("dtls_listen", default: https.value)
        let mesh = root.address("mesh_listen", default: result.meshListen)
        let ops = root.address("ops_listen", default: result.opsListen)
        let admin = root.address("admin_listen", default: result.adminListen)
        reportCollisions(
            [("http_listen", http), ("https_listen", https), ("ops_listen", ops), ("admin_listen", admin)],
            in: root
        )
        result.httpListen = http.value
        result.httpsListen = https.value
        result.dtlsListen = dtls.value
        result.meshListen = mesh.value
        result.isMeshListenExplicit = mesh.origin != .fallback
        result.meshAdvertise =
            root.optional("mesh_advertise", absent: "POD_IP, or an address of this machine") {
                text throws(FormatError) in
                try HostPort.parse(
                    text,
                    defaultPort: mesh.value.port,
                    remedy: "Write HOST or HOST:PORT as the other replicas reach it, as in 10.0.0.5:7443."
                )
            }?.value
        result.opsListen = ops.value
        result.adminListen = admin.value

        result.name =
            root.value("name", default: ProcessName.standard(environment: environment, fallback: "gateway")) {
                text throws(FormatError) in
                try Scalars.name(text, longest: 253)
            }.value
        result.store = readStore(root, reader, environment)
        result.adminTokenFile = root.readableFile("admin_token_file", isRequired: false)?.value
        result.tunnelAddresses = readTunnelAddresses(root, port: dtls.value.port)
        result.loops =
            root.optional("loops", absent: "one per core") { text throws(FormatError) in
                try Scalars.int(text, in: 1...256)
            }?.value
        result.logLevel = root.choice("log_level", default: result.logLevel).value
        result.logFormat = root.choice("log_format", default: result.logFormat).value
        let grace = root.duration("shutdown_grace", default: .seconds(30), in: .zero ... .seconds(3600))
        result.shutdownGrace = TimeAmount(grace.value)
        result.timeouts = readTimeouts(root.section("timeouts"))
        result.certificates = readCertificates(root, reader)
        result.developmentCA = root.choice("development_ca", default: result.developmentCA).value
        result.acme = readACME(root, reader)
        result.routes = readRoutes(root, reader)

        try reader.finish()
        return (result, reader.effective)
    }

    /// Reports TCP listeners that share a port. Unlike the error of `bind`, this names both keys.
    private static func reportCollisions(
        _ listeners: [(key: String, address: Setting<ListenAddress>)],
        in root: SettingsScope
    ) {
        for (index, listener) in listeners.enumerated() {
            for earlier in listeners[..<index] where listener.address.value.collides(with: earlier.address.value) {
                // Reported at the key that was written, not at a default.
                let blamed = listener.address.origin == .fallback ? earlier : listener
                let other = listener.address.origin == .fallback ? listener : earlier
                root.report(
                    blamed.key,
                    blamed.address.origin,
                    FormatError(
                        "\(blamed.address.value) is also \(other.key) (\(other.address.origin))",
                        "Give each listener its own port."
                    )
                )
            }
        }
    }

    private static func readStore(
        _ root: SettingsScope,
        _ reader: SettingsReader,
        _ environment: [String: String]
    ) -> SharedStoreConfiguration {
        let section = root.section("store")
        let path = storePath(root, section) ?? Setting(DataDirectory.standard(environment: environment), .fallback)
        section.record("path", masked(path.value), path.origin)
        var result = SharedStoreConfiguration(path: path.value)
        result.isPathExplicit = path.origin != .fallback
        result.driver = section.choice("driver", default: result.driver).value
        let cluster = section.optional("cluster", absent: "any") { text throws(FormatError) in
            guard text.utf8.count == 32, Hex.bytes(text) != nil else {
                throw FormatError(
                    "\(quoted(text)) is not the id of a cluster",
                    "Write the 32 hexadecimal digits that \"hopgate cluster show\" prints."
                )
            }
            return text.lowercased()
        }
        result.cluster = cluster?.value
        if let cluster, result.driver == .memory {
            let remedy = "The memory of a process is a new cluster each time: use store.driver volume, or remove it."
            section.report("cluster", cluster.origin, FormatError("needs a volume", remedy))
        }
        let lease = section.duration("lease_ttl", default: .seconds(15), in: .seconds(1) ... .seconds(300))
        result.leaseTTL = TimeAmount(lease.value)
        result.clusterKeyFile = root.readableFile("cluster_key_file", isRequired: false)?.value
        return result
    }

    /// Reads `store.path`, or `acme_cache_dir`, the name of this key in versions without a store. Both may be given if
    /// they are equal.
    private static func storePath(_ root: SettingsScope, _ section: SettingsScope) -> Setting<String>? {
        let path = section.optionalPath("path")
        guard let cache = root.optionalPath("acme_cache_dir") else { return path }
        guard let path else { return cache }
        func plain(_ path: String) -> Substring {
            var rest = path[...]
            while rest.count > 1, rest.hasSuffix("/") { rest.removeLast() }
            return rest
        }
        if plain(path.value) != plain(cache.value) {
            let what =
                "\(quoted(cache.value)) differs from store.path, \(quoted(path.value)) (\(path.origin))"
            let remedy = "Certificates are in the store: remove acme_cache_dir, or give both the same folder."
            root.report("acme_cache_dir", cache.origin, FormatError(what, remedy))
        }
        return path
    }

    private static func readTunnelAddresses(_ root: SettingsScope, port: Int) -> [HostPort] {
        let addresses = root.list("tunnel_addresses") { text throws(FormatError) in
            try HostPort.parse(
                text,
                defaultPort: port,
                remedy: "Write HOST or HOST:PORT as agents see it, as in gateway.example.com:443."
            )
        }
        return addresses.map(\.value)
    }

    private static func readTimeouts(_ section: SettingsScope) -> EdgeTimeouts {
        var result = EdgeTimeouts()
        func read(_ key: String, _ path: WritableKeyPath<EdgeTimeouts, TimeAmount>) {
            let fallback = Duration.nanoseconds(result[keyPath: path].nanoseconds)
            let value = section.duration(key, default: fallback, in: .milliseconds(100) ... .seconds(86_400)).value
            result[keyPath: path] = TimeAmount(value)
        }
        read("tls_handshake", \.tlsHandshake)
        read("header", \.header)
        read("body_idle", \.bodyIdle)
        read("keep_alive_idle", \.keepAliveIdle)
        read("response_head", \.responseHead)
        read("websocket_idle", \.webSocketIdle)
        return result
    }

    private static func readCertificates(_ root: SettingsScope, _ reader: SettingsReader) -> [CertificateFiles] {
        let items = root.maps("certificates")
        if items.isEmpty { reader.record("certificates", "none", .fallback) }
        return items.compactMap { item in
            let cert = item.readableFile("cert", isRequired: true)
            let key = item.readableFile("key", isRequired: true)
            guard let cert, let key else { return nil }
            reader.record(item.path, "\(quoted(cert.value)), key \(quoted(key.value))", item.origin)
            return CertificateFiles(certificate: cert.value, key: key.value)
        }
    }

    private static func readRoutes(_ root: SettingsScope, _ reader: SettingsReader) -> [Route] {
        var seen: [String: SettingOrigin] = [:]
        var routes: [Route] = []
        for item in root.maps("routes") {
            let host = item.required("host", parse: HostPattern.canonicalText)
            let path = item.value("path", default: "/", parse: Route.parsePathPrefix)
            let target = item.required("to", parse: Route.parseTarget)
            let strip = item.bool("strip_prefix", default: false)
            let timeout = item.optional("timeout") { text throws(FormatError) in
                try Scalars.duration(text, in: .milliseconds(1) ... .seconds(86_400))
            }
            guard let host, let target else { continue }
            let name = host.value + path.value
            if let first = seen[name] {
                let problem = FormatError("\(quoted(name)) is already routed at \(first)", "Keep one of the two.")
                item.report("host", host.origin, problem)
                continue
            }
            seen[name] = host.origin
            let route = Route(
                host: host.value,
                pathPrefix: path.value,
                agent: target.value.agent,
                service: target.value.service,
                stripPrefix: strip.value,
                timeout: timeout.map { TimeAmount($0.value) }
            )
            routes.append(route)
            reader.record(item.path, summary(of: route, timeout: timeout?.value), item.origin)
        }
        if routes.isEmpty { reader.record("routes", "none", .fallback) }
        return routes
    }

    private static func summary(of route: Route, timeout: Duration?) -> String {
        var text = "\(route.host)\(route.pathPrefix) to \(route.agent)/\(route.service)"
        if route.stripPrefix { text += ", prefix stripped" }
        if let timeout { text += ", timeout \(Scalars.format(timeout))" }
        return text
    }
}
