import Certificates
import Foundation
import Synchronization
import Testing

@Suite("The source of certificates")
struct CertificateSourceTests {
    let scratch = Scratch()

    private func write(_ test: TestCertificate) -> CertificateFiles {
        CertificateFiles(certificate: scratch.write("chain.pem", test.chain), key: scratch.write("key.pem", test.key))
    }

    @Test("A torn or bad pair keeps the last good certificate and is reported once")
    func lastGood() throws {
        let first = try TestCertificate(["first.test"])
        let second = try TestCertificate(["second.test"])
        let source = try CertificateSource(files: [write(first)])
        var problems: [CertificatesError] = []
        var changes = 0
        func reload() {
            source.reload(onChange: { _ in changes += 1 }, onProblem: { problems.append($0) })
        }
        reload()
        #expect(changes == 0 && problems.isEmpty)
        // The certificate is new, the key is still the old one.
        _ = scratch.write("chain.pem", second.chain)
        reload()
        reload()
        #expect(problems.map(\.code) == [.keyMismatch])
        #expect(source.snapshot.fallback.names == [.dns("first.test")])
        _ = scratch.write("key.pem", second.key)
        reload()
        #expect(changes == 1)
        #expect(source.snapshot.fallback.names == [.dns("second.test")])
        try FileManager.default.removeItem(atPath: scratch.file("key.pem"))
        reload()
        #expect(problems.map(\.code) == [.keyMismatch, .file(.notFound)])
        #expect(source.snapshot.select(serverName: "second.test").names == [.dns("second.test")])
        // Mended with the same bytes: nothing changes, and a later problem is reported again.
        _ = scratch.write("key.pem", second.key)
        reload()
        _ = scratch.write("key.pem", first.key)
        reload()
        #expect(changes == 1)
        #expect(problems.count == 3)
    }

    @Test("Bad files at start are an error")
    func badAtStart() throws {
        let files = write(try TestCertificate(["first.test"]))
        _ = scratch.write("key.pem", "nothing")
        #expect(throws: CertificatesError.self) { try CertificateSource(files: [files]) }
    }

    @Test("New files are served in less than 2.5 s", .timeLimit(.minutes(1)))
    func watching() async throws {
        let source = try CertificateSource(files: [write(try TestCertificate(["first.test"]))])
        let seen = Mutex<[CertificateName]>([])
        source.watch(onChange: { snapshot in seen.withLock { $0 = snapshot.fallback.names } }, onProblem: { _ in })
        defer { source.stop() }
        let start = ContinuousClock.now
        _ = write(try TestCertificate(["second.test"]))
        #expect(await eventually { source.snapshot.fallback.names == [.dns("second.test")] })
        #expect(ContinuousClock.now - start < .milliseconds(2_500))
        #expect(await eventually { seen.withLock { $0 } == [.dns("second.test")] })
    }

    @Test("A host that an agent serves enters the development leaf without waiting for the next round")
    func coveredNames() async throws {
        let source = try CertificateSource(developmentCA: scratch.file("ca"), names: ["route.test"])
        let root = try #require(source.developmentRoot)
        source.watch(onChange: { _ in }, onProblem: { _ in })
        defer { source.stop() }
        source.cover(names: ["agent.test", "not a name"])
        #expect(await eventually { source.snapshot.fallback.names.contains(.dns("agent.test")) })
        #expect(source.snapshot.fallback.names.contains(.dns("route.test")))
        #expect(source.developmentRoot?.fingerprint == root.fingerprint)
    }

    @Test("The development leaf is renewed while the gateway runs, below a third of its life")
    func renewal() throws {
        let start = Date()
        let source = try CertificateSource(developmentCA: scratch.file("ca"), names: [], now: start)
        let first = source.snapshot.fallback
        source.reload(now: start + 59 * 86_400)
        #expect(source.snapshot.fallback === first)
        source.reload(now: start + 61 * 86_400)
        #expect(source.snapshot.fallback !== first)
        #expect(source.snapshot.fallback.notValidAfter > first.notValidAfter)
    }

    @Test("Look-ups during swaps always see a whole certificate")
    func swaps() async throws {
        let tests = [try TestCertificate(["a.test"]), try TestCertificate(["b.test"])]
        let source = try CertificateSource(files: [write(tests[0])])
        let reader = Task.detached {
            var torn = 0
            var reads = 0
            while !Task.isCancelled || reads == 0 {
                let served = source.snapshot.fallback
                let index = served.names == [.dns("a.test")] ? 0 : 1
                if served.chainPEM != Array(tests[index].chain.utf8) { torn += 1 }
                reads += 1
            }
            return torn
        }
        for round in 1...200 {
            _ = write(tests[round % 2])
            source.reload()
        }
        reader.cancel()
        #expect(await reader.value == 0)
    }
}
