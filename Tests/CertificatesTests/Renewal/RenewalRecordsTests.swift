import ACME
import Certificates
import Store
import TestSupport
import Testing

@Suite("Records of renewals")
struct RenewalRecordsTests {
    private let scratch = ScratchFolder()

    @Test("A holder whose lease was taken over writes neither states nor orders nor certificates")
    func zombie() async throws {
        let key: StoreKey = "certs/a.test"
        let store = try scratch.store()
        defer { store.close() }
        let records = RenewalRecords(store)
        let certificate = try TestCertificate(["a.test"]).loaded()
        let lease = try await store.certificates.lease(of: key)
        var state = RenewalState()
        state.failures = 1
        try await records.put(state, of: key, under: lease)
        _ = try await store.write(RenewalRecords.orders.child("a.test"), .create(Array("{}".utf8)), under: lease)

        let options = LeaseOptions(guards: [key])
        let other = LeaseCandidate(volume: try scratch.volume(), lease: key, options: options, name: "other")
        let successor = try #require(try other.acquire(lease.epoch + 1))
        state.failures = 2
        let put = await #expect(throws: StoreError.self) { try await records.put(state, of: key, under: lease) }
        #expect(put?.code == .fenced)
        let removal = await #expect(throws: StoreError.self) { try await records.removeOrder(of: key, under: lease) }
        #expect(removal?.code == .fenced)
        let write = await #expect(throws: StoreError.self) {
            _ = try await store.certificates.write(certificate, as: key, origin: "acme", under: lease)
        }
        #expect(write?.code == .fenced)
        #expect(try await records.state(of: key).failures == 1)
        #expect(try await store.readIfPresent(RenewalRecords.orders.child("a.test")) != nil)
        #expect(try await store.readIfPresent(key) == nil)
        withExtendedLifetime(successor) {}
    }

    @Test("A damaged record counts as missing, and one of a later release is an error and stays")
    func laterFormat() async throws {
        let store = VolumeStore.inMemory()
        let records = RenewalRecords(store)
        let certificate: StoreKey = "certs/a.test"
        let keys = [
            try RenewalRecords.names.child("a.test"), try RenewalRecords.orders.child("a.test"),
            try RenewalRecords.accounts.child(Fingerprint.of(TestCA.directory.text)),
        ]
        for key in keys { try await store.write(key, .create(Array("{}".utf8))) }
        #expect(try await records.state(of: certificate) == RenewalState())
        #expect(try await records.order(of: certificate) == nil)

        let later = Array(#"{"format":2}"#.utf8)
        for key in keys { try await store.write(key, .replace(1, later)) }
        let errors = [
            await #expect(throws: StoreError.self) { try await records.state(of: certificate) },
            await #expect(throws: StoreError.self) { try await records.order(of: certificate) },
            await #expect(throws: StoreError.self) { try await records.account(at: TestCA.directory) },
        ]
        for (key, error) in zip(keys, errors) {
            let text = try #require(error).description
            #expect(text.hasPrefix(key.path) && text.hasSuffix("is 2; this release reads 1; upgrade this gateway"))
            #expect(try await store.read(key).bytes == later)
        }
    }
}
