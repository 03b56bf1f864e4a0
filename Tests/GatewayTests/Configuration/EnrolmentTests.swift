import Certificates
import Cluster
import Credentials
import Gateway
import Settings
import Store
import TestSupport
import Testing

@Suite("Enrolment parameters from the configuration")
struct EnrolmentTests {
    private let folder = ScratchFolder()
    private let keyring = ClusterKeyring([.generate()])

    @Test("Addresses come from the operator, the configuration, the listener, and last this machine")
    func addresses() async throws {
        let store = VolumeStore.inMemory()
        let local = try await enrolment(at: ListenAddress(host: "0.0.0.0", port: 8443), in: store)
        #expect(local.gateways.map(\.description) == ["127.0.0.1:8443"] && local.pin?.count == 32)
        #expect(local.notes.count == 1 && local.notes[0].contains("tunnel_addresses"))
        let six = try await enrolment(at: ListenAddress(host: "::", port: 4433))
        #expect(six.gateways.map(\.description) == ["[::1]:4433"])
        let listen = ListenAddress(host: "192.0.2.1", port: 4433)
        let listening = try await enrolment(at: listen)
        #expect(listening.gateways.map(\.description) == ["192.0.2.1:4433"] && listening.notes.isEmpty)
        let configured = [HostPort(host: "gw.test", port: 443)]
        #expect(try await enrolment(at: listen, configured: configured).gateways == configured)
        let named = [HostPort(host: "x.test", port: 1)]
        let explicit = try await enrolment(at: listen, configured: configured, named: named, in: store)
        #expect(explicit.gateways == named && explicit.pin == local.pin)
        let kept = try await enrolment(at: listen, configured: configured, kept: named, in: store)
        #expect(kept.gateways == named && kept.pin == local.pin && kept.notes.isEmpty)
        let keptLocal = try await enrolment(at: listen, configured: configured, kept: local.gateways)
        #expect(keptLocal.gateways == local.gateways && keptLocal.notes.first?.contains("--gateway") == true)
        #expect(try await enrolment(at: listen, named: configured, kept: named).gateways == configured)
        let many = (1...17).map { HostPort(host: "x.test", port: $0) }
        await #expect(throws: CredentialError.self) { try await enrolment(at: listen, named: many) }
    }

    private func enrolment(
        at listen: ListenAddress,
        configured: [HostPort] = [],
        named: [HostPort] = [],
        kept: [HostPort] = [],
        in store: any Store = VolumeStore.inMemory()
    ) async throws -> Enrolment {
        var configuration = GatewayConfiguration()
        configuration.store = SharedStoreConfiguration(path: folder.file("data"))
        configuration.dtlsListen = listen
        configuration.tunnelAddresses = configured
        return try await Enrolment(
            configuration,
            gateways: named,
            keeping: kept,
            store: CertificateSet(store) { [keyring] in keyring },
            check: TLSIdentities.check
        )
    }
}
