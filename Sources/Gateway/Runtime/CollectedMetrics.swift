import ACME
import Certificates
import Cluster
import Credentials
import Observability
import Store
import Transport

/// Metrics that other parts count and that are read when the metrics are scraped. From memory only.
struct CollectedMetrics {
    private let assembly: GatewayAssembly
    private let tunnels: TunnelListener

    var registry: MetricsRegistry { assembly.metrics.registry }

    /// Registers the collectors. They live as long as the registry.
    static func register(_ assembly: GatewayAssembly, _ tunnels: TunnelListener) {
        let metrics = CollectedMetrics(assembly: assembly, tunnels: tunnels)
        metrics.collectCredentials(assembly.credentials)
        metrics.collectCertificates(assembly.certificates)
        metrics.collectTunnels()
        metrics.collectStore(assembly.shared)
        metrics.collectReplicas(assembly.watch)
        metrics.registry.registerProcessMetrics(build: [("version", assembly.version)])
    }

    private func collectCredentials(_ credentials: CredentialCache) {
        registry.collect(
            "credentials",
            .gauge,
            help:
                "Credentials in the store by state; bad: the document is unusable, its last valid version may be in use.",
            labelNames: ["state"]
        ) { samples in
            let statistics = credentials.statistics
            samples.add(Double(statistics.valid), ["good"])
            samples.add(Double(statistics.revoked), ["revoked"])
            samples.add(Double(statistics.unusable), ["bad"])
        }
        registry.collect(
            "credential_documents_refused_total",
            .counter,
            help: "Documents of credentials that were not accepted, by reason.",
            labelNames: ["reason"]
        ) { samples in
            let faults = credentials.statistics.faults
            for fault in CredentialFault.allCases { samples.add(Double(faults[fault] ?? 0), [fault.rawValue]) }
        }
    }

    private func collectCertificates(_ certificates: ServedCertificates) {
        registry.collect(
            "certificate_not_after_timestamp_seconds",
            .gauge,
            help: "End of the validity of a served certificate, seconds since the epoch.",
            labelNames: ["name"]
        ) { samples in
            // The label is the name in the store, or the first name that no stronger certificate has. A certificate
            // without such a name is never served.
            let storeNames = Self.storeNames(certificates)
            var seen: Set<String> = []
            for certificate in certificates.snapshot.certificates {
                var names = certificate.names.isEmpty ? [certificate.origin] : certificate.names.map { "\($0)" }
                if let name = storeNames[ObjectIdentifier(certificate)] { names.insert(name, at: 0) }
                guard let name = names.first(where: { !seen.contains($0) }) else { continue }
                seen.formUnion(names)
                samples.add(Double(certificate.notValidAfter), [name])
            }
        }
        registry.collect(
            "certificate_version",
            .gauge,
            help: "Version of a certificate in the store.",
            labelNames: ["name"]
        ) { samples in
            for status in certificates.statuses {
                if let version = status.version { samples.add(Double(version), [Self.name(status)]) }
            }
        }
        registry.collect(
            "certificate_problems",
            .gauge,
            help: "Certificates whose newest version is unusable; the last valid one is served, if there was one.",
            labelNames: ["reason"]
        ) { samples in
            let problems = certificates.statuses.compactMap(\.problem?.kind)
            for kind in CertificatesError.Kind.allCases {
                samples.add(Double(problems.count { $0 == kind }), [kind.rawValue])
            }
        }
    }

    private func collectTunnels() {
        let (agents, tunnels) = (assembly.registry, tunnels)
        registry.collectedGauge("agents_connected", help: "Agent sessions that take requests.") {
            Double(agents.count)
        }
        let sessions = assembly.clusterSessions
        registry.collectedGauge("directory_rows", help: "Agent sessions of other replicas that this one knows of.") {
            Double(sessions.counts.rows)
        }
        registry.collectedCounter(
            "directory_rows_refused_total",
            help: "Descriptions of agent sessions of other replicas that could not be read."
        ) {
            Double(sessions.counts.refused)
        }
        let mesh = assembly.mesh
        registry.collectedGauge("mesh_replicas", help: "Other replicas that this one has a session with.") {
            Double(mesh?.counts.connected ?? 0)
        }
        registry.collectedCounter(
            "mesh_sessions_refused_total",
            help: "Calls at the mesh port that were refused, during or after the handshake."
        ) {
            Double(mesh?.counts.refused ?? 0)
        }
        registry.collectedGauge(
            "agent_hosts_contested",
            help: "Claims of agents' tokens to hosts that belong to another token."
        ) {
            Double(agents.contestedHosts)
        }
        registry.collectedGauge("tunnel_sessions_half_open", help: "Sessions that are not authenticated yet.") {
            Double(tunnels.halfOpen)
        }
        registry.collectedCounter(
            "tunnel_sessions_evicted_total",
            help: "Half-open sessions that were ended for another one, because all places were taken."
        ) {
            Self.sum(tunnels) { $0.halfOpenEvicted.current }
        }
        registry.collect(
            "tunnel_datagrams_total",
            .counter,
            help: "Datagrams on the tunnel port, from agents and other senders.",
            labelNames: ["direction"]
        ) { samples in
            samples.add(Self.sum(tunnels) { $0.datagramsIn.current }, ["in"])
            samples.add(Self.sum(tunnels) { $0.datagramsOut.current }, ["out"])
        }
        registry.collect(
            "tunnel_datagrams_dropped_total",
            .counter,
            help: "Datagrams that were dropped unread or refused, by reason.",
            labelNames: ["reason"]
        ) { samples in
            samples.add(Self.sum(tunnels) { $0.droppedPortZero.current }, ["port_zero"])
            samples.add(Self.sum(tunnels) { $0.droppedInvalid.current }, ["invalid"])
            samples.add(Self.sum(tunnels) { $0.droppedUnknown.current }, ["unknown_session"])
            samples.add(Self.sum(tunnels) { $0.droppedHello.current }, ["hello"])
            samples.add(Self.sum(tunnels) { $0.droppedHalfOpenTotal.current }, ["half_open"])
            samples.add(Self.sum(tunnels) { $0.droppedHalfOpenAddress.current }, ["half_open_address"])
        }
        registry.collect(
            "tunnel_handshakes_total",
            .counter,
            help: "DTLS handshakes by result.",
            labelNames: ["result"]
        ) { samples in
            samples.add(Self.sum(tunnels) { $0.handshakesFinished.current }, ["finished"])
            samples.add(Self.sum(tunnels) { $0.handshakesFailed.current }, ["failed"])
        }
    }

    /// Returns the names in the store of the certificates that come from it.
    private static func storeNames(_ certificates: ServedCertificates) -> [ObjectIdentifier: String] {
        var names: [ObjectIdentifier: String] = [:]
        for status in certificates.statuses {
            guard status.source == .store, let certificate = status.certificate else { continue }
            names[ObjectIdentifier(certificate)] = name(status)
        }
        return names
    }

    private static func name(_ status: CertificateStatus) -> String {
        let key = try? StoreKey(status.place)
        return key.flatMap { CertificateName(storeKey: $0) }?.description ?? status.place
    }

    private static func sum(_ tunnels: TunnelListener, _ read: (TransportCounters) -> Int) -> Double {
        Double(tunnels.counters.reduce(0) { $0 + read($1) })
    }
}
