import Certificates
import Observability
import Store
import Transport

/// What others count and is read when the metrics are scraped.
extension GatewayMetrics {
    func collect(_ assembly: GatewayAssembly, _ tunnels: TunnelListener) {
        collect(credentials: assembly.credentials)
        collect(certificates: assembly.certificates, registry: assembly.registry, tunnels: tunnels)
        collect(store: assembly.shared, replicas: assembly.watch)
        registry.registerProcessMetrics(build: [("version", assembly.version)])
    }

    /// The credentials, as this replica knows them.
    func collect(credentials: CredentialCache) {
        self.registry.collect(
            "credentials",
            .gauge,
            help: "Credentials in the store by state; bad: their document cannot be used, the last good view may be.",
            labelNames: ["state"]
        ) { samples in
            let statistics = credentials.statistics
            samples.add(Double(statistics.good), ["good"])
            samples.add(Double(statistics.revoked), ["revoked"])
            samples.add(Double(statistics.bad), ["bad"])
        }
        self.registry.collect(
            "credential_documents_refused_total",
            .counter,
            help: "Documents of credentials that were not taken, by reason.",
            labelNames: ["reason"]
        ) { samples in
            let faults = credentials.statistics.faults
            for fault in CredentialFault.allCases { samples.add(Double(faults[fault] ?? 0), [fault.rawValue]) }
        }
    }

    func collect(certificates: ServedCertificates, registry: AgentRegistry, tunnels: TunnelListener) {
        self.registry.collect(
            "certificate_not_after_timestamp_seconds",
            .gauge,
            help: "End of the validity of a served certificate, seconds since the epoch.",
            labelNames: ["name"]
        ) { samples in
            // Each by what it is called in the store, or by its first name that no stronger one has: what is left out is
            // served to nobody.
            let called = Self.called(certificates)
            var seen: Set<String> = []
            for certificate in certificates.snapshot.certificates {
                var names = certificate.names.isEmpty ? [certificate.origin] : certificate.names.map { "\($0)" }
                if let name = called[ObjectIdentifier(certificate)] { names.insert(name, at: 0) }
                guard let name = names.first(where: { !seen.contains($0) }) else { continue }
                seen.formUnion(names)
                samples.add(Double(certificate.notValidAfter), [name])
            }
        }
        self.registry.collect(
            "certificate_generation",
            .gauge,
            help: "Number within its epoch of the newest generation of a certificate in the store.",
            labelNames: ["name"]
        ) { samples in Self.generations(certificates) { samples.add(Double($0.counter), [$1]) } }
        self.registry.collect(
            "certificate_epoch",
            .gauge,
            help: "Epoch of the lease under which the newest generation of a certificate in the store was published.",
            labelNames: ["name"]
        ) { samples in Self.generations(certificates) { samples.add(Double($0.epoch), [$1]) } }
        self.registry.collect(
            "certificate_problems",
            .gauge,
            help: "Certificates whose newest form cannot be used; the last good one is served, if there was one.",
            labelNames: ["reason"]
        ) { samples in
            let problems = certificates.statuses.compactMap(\.problem?.kind)
            for kind in CertificatesError.Kind.allCases {
                samples.add(Double(problems.count { $0 == kind }), [kind.rawValue])
            }
        }
        self.registry.collectedGauge("agents_connected", help: "Agent sessions that take requests.") {
            Double(registry.count)
        }
        self.registry.collectedGauge("tunnel_sessions_half_open", help: "Sessions under way to proving themselves.") {
            Double(tunnels.halfOpen)
        }
        self.registry.collect(
            "tunnel_datagrams_total",
            .counter,
            help: "Datagrams of agents and whoever else sends to the tunnel port.",
            labelNames: ["direction"]
        ) { samples in
            samples.add(Self.sum(tunnels) { $0.datagramsIn.current }, ["in"])
            samples.add(Self.sum(tunnels) { $0.datagramsOut.current }, ["out"])
        }
        self.registry.collect(
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
        self.registry.collect(
            "tunnel_handshakes_total",
            .counter,
            help: "DTLS handshakes by result.",
            labelNames: ["result"]
        ) { samples in
            samples.add(Self.sum(tunnels) { $0.handshakesFinished.current }, ["finished"])
            samples.add(Self.sum(tunnels) { $0.handshakesFailed.current }, ["failed"])
        }
    }

    /// What the certificates of the store are called there.
    private static func called(_ certificates: ServedCertificates) -> [ObjectIdentifier: String] {
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

    /// Each by what it is called in the store.
    private static func generations(_ certificates: ServedCertificates, _ body: (Generation, String) -> Void) {
        for status in certificates.statuses {
            if let generation = status.generation { body(generation, name(status)) }
        }
    }

    private static func sum(_ tunnels: TunnelListener, _ read: (TransportCounters) -> Int) -> Double {
        Double(tunnels.counters.reduce(0) { $0 + read($1) })
    }
}
