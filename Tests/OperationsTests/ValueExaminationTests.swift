import Certificates
import Cluster
import Formats
import Foundation
import Glibc
import NIOCore
import Operations
import Store
import TestSupport
import Testing

@Suite("Values that cannot be used")
struct ValueExaminationTests {
    private let scratch = ScratchFolder()
    private let store: VolumeStore
    private let cluster: ClusterIdentity

    init() async throws {
        (store, cluster, _) = try await VolumeStore.open(path: scratch.file("v2"), mounted: nil)
    }

    private var certificates: CertificateSet { CertificateSet(store) { [cluster] in cluster.keyring } }
    private var examination: ValueExamination { ValueExamination(certificates, cluster.keyring) }

    private func check() async -> StoreCheckReport {
        await StoreCheck(SharedStoreConfiguration(path: scratch.path), heartbeatInterval: .milliseconds(10)).run()
    }

    private func seal(_ key: StoreKey, version: UInt64, with signing: ClusterKey? = nil) -> [UInt8] {
        SealedDocument.seal(bytes(#"{"a":1}"#), at: key, version: version, with: signing ?? cluster.keyring.signing)
    }

    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    /// Puts a file in the place of a version.
    @discardableResult
    private func plant(_ key: StoreKey, _ version: Int, _ content: [UInt8]) -> String {
        scratch.write("v2/\(key)/\(version).json", content)
    }

    /// The ways in which the version after a good one cannot be used, and words of the reason.
    private static let damages: [(name: String, words: String)] = [
        ("empty", "is empty"), ("noise", "is not a version of a value"), ("edited", "has a wrong MAC"),
        ("copied", "has a wrong MAC"), ("unsealed", "has no MAC"), ("foreign", "is signed with a key"),
        ("huge", "is larger than"), ("folder", "is not of the expected kind"), ("pipe", "is not of the expected kind"),
        ("link", "is a symbolic link"), ("open", "is open to other users"),
    ]

    private func damage(_ key: StoreKey, _ name: String) {
        let path = scratch.file("v2/\(key)/2.json")
        switch name {
        case "empty": plant(key, 2, [])
        case "noise": plant(key, 2, bytes("rubbish"))
        case "edited": plant(key, 2, storedFile(seal(key, version: 2).dropLast(2) + bytes("2}")))
        case "copied": plant(key, 2, storedFile(seal("agents/other", version: 1)))
        case "unsealed": plant(key, 2, storedFile(bytes("{}")))
        case "foreign": plant(key, 2, storedFile(seal(key, version: 2, with: .generate())))
        case "huge":
            plant(key, 2, [])
            #expect(truncate(path, 8 << 30) == 0)
        case "folder":
            mkdir(path, 0o700)
            scratch.write("v2/\(key)/2.json/file", "x")
        case "pipe": mkfifo(path, 0o600)
        case "link": symlink("/etc/hostname", path)
        default:
            plant(key, 2, storedFile(seal(key, version: 2)))
            chmod(path, 0o644)
        }
    }

    @Test("A value whose newest version cannot be used is listed with file, reason and remedy, and can be removed")
    func unusable() async throws {
        for (name, _) in Self.damages {
            let key = try StoreKey("agents/\(name)")
            try await store.write(key, .create(seal(key, version: 1)))
            damage(key, name)
        }
        try await store.write("agents/good", .create(seal("agents/good", version: 1)))
        let began = NIODeadline.now()
        let report = await check()
        #expect(NIODeadline.now() - began < .seconds(10))
        #expect(report.isUsable && !report.isFaultless && report.credentials.count == 1)
        #expect(report.unusable.map(\.key?.name) == Self.damages.map(\.name).sorted())
        for file in report.unusable {
            let name = try #require(file.key?.name)
            #expect(file.path.hasPrefix(scratch.file("v2/agents/\(name)/2.json")), "\(file)")
            let words = Self.damages.first { $0.name == name }?.words ?? "?"
            #expect(
                file.reason.contains(words) && file.reason.contains("hopgate store remove agents/\(name)"),
                "\(file)"
            )
        }
        let text = report.text { $0.map { $0.joined(separator: " ") }.joined(separator: "\n") }
        #expect(text.hasSuffix("The store can be used, but 11 files and values cannot, as listed above."))
        for (name, _) in Self.damages {
            let key = try StoreKey("agents/\(name)")
            try await examination.remove(key)
            #expect(scratch.names("v2/\(key)") == ["3.json"], "\(name)")
            #expect(try await store.readIfPresent(key) == nil)
        }
        #expect(await check().isFaultless)
    }

    @Test("A value that can be used is not removed, and neither is one that does not exist or is of a later release")
    func refused() async throws {
        let key: StoreKey = "agents/a"
        try await store.write(key, .create(seal(key, version: 1)))
        let usable = await #expect(throws: StoreError.self) { try await examination.remove(key) }
        #expect(usable?.code == .refused && usable?.reason.contains("hopgate token revoke") == true)
        plant(key, 2, bytes("HGV3 value"))
        let later = await #expect(throws: StoreError.self) { try await examination.remove(key) }
        #expect(later?.code == .newerFormat)
        #expect(scratch.names("v2/agents/a").sorted() == ["1.json", "2.json"])
        let missing = await #expect(throws: StoreError.self) { try await examination.remove("agents/none") }
        #expect(missing?.code == .notFound)
    }

    @Test("Of a damaged certificate the earlier version that gateways serve is named; removal and import are fenced")
    func certificate() async throws {
        let issued = try TestAuthority.shared.issue(["app.test"])
        let certificate = try ServerCertificate(
            chain: issued.chainBytes,
            key: issued.keyBytes,
            chainPath: "chain",
            keyPath: "key"
        )
        func write() async throws {
            _ = try await certificates.withLease(of: "certs/app.test") { lease throws(StoreError) in
                try await certificates.write(certificate, as: "certs/app.test", origin: "import", under: lease)
            }
        }
        try await write()
        for name in ["empty", "huge", "folder", "noise"] {
            let key: StoreKey = "certs/app.test"
            damage(key, name)
            let file = try #require(await check().unusable.first)
            #expect(
                file.key == key && file.versionInUse == 1
                    && file.description.hasSuffix("version 1 is used in its place")
            )
            #expect(file.reason.contains("remove") && file.reason.contains("hopgate store remove \(key)"))
            // An import replaces it.
            try await write()
            #expect(await check().isFaultless)
            #expect(try await store.read(key).version == 3)
            try await certificates.withLease(of: key) { lease throws(StoreError) in
                try await certificates.remove(key, under: lease)
            }
            try FileManager.default.removeItem(atPath: scratch.file("v2/certs/app.test"))
            try await write()
        }
        let greatest = plant("certs/app.test", 1 << 53, [])
        chmod(greatest, 0o644)
        let file = try #require(await check().unusable.first)
        #expect(file.versionInUse == 1 && file.reason.hasSuffix("move it out of the store's folder"), "\(file)")
        unlink(greatest)
        damage("certs/app.test", "noise")
        try await examination.remove("certs/app.test")
        #expect(try await store.readIfPresent("certs/app.test") == nil)
    }

    @Test("An earlier version of a damaged certificate that could not be read in the time for it is stated as unknown")
    func earlierNotRead() async throws {
        let key: StoreKey = "certs/app.test"
        try await store.write(key, .create(bytes("{}")))
        damage(key, "noise")
        let unknown = "whether an earlier version is used in its place could not be read"
        let all = await examination.run(within: .seconds(20))
        #expect(all.isComplete && all.unusable.map(\.key) == [key])
        #expect(all.unusable.first?.reason.contains(unknown) == false)
        // The first reading of values is that of the certificate.
        store.onOperation { [store] operation, _ in if operation == .read { store.close() } }
        let part = await examination.run(within: .seconds(20))
        #expect(!part.isComplete && part.failures.isEmpty)
        #expect(part.unusable.first?.key == key && part.unusable.first?.reason.contains(unknown) == true)
    }

    @Test("A check that is cancelled does not report a part of the values as all")
    func cancelled() async throws {
        try await store.write("agents/a", .create(seal("agents/a", version: 1)))
        let examination = examination
        let findings = await Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await examination.run(within: .seconds(20))
        }.value
        #expect(!findings.isComplete && findings.failures.isEmpty)
        #expect(findings.counts[StoreLayout.credentials]?.isComplete == false)
    }

    @Test("Records of ACME that are damaged are listed, and a damaged folder of a key with a command that deletes it")
    func others() async throws {
        for name in ["accounts", "authorities", "names", "on-demand", "orders"] {
            try await store.write(try StoreKey("acme/\(name)/x"), .create(bytes("{}")))
        }
        try await store.write("acme/challenges/x", .create(bytes("{}")))
        mkfifo(scratch.file("v2/agents/pipe"), 0o600)
        let unusable = await check().unusable
        let keys = ["accounts", "authorities", "challenges", "names", "on-demand", "orders"].map { "acme/\($0)/x" }
        #expect(unusable.map(\.key?.path) == keys + ["agents/pipe"])
        #expect(unusable.last?.reason.hasSuffix("move it away") == true)
        for key in keys { try await examination.remove(try StoreKey(key)) }
        #expect(await check().unusable.count == 1)
    }

    @Test("A link in the place of a value's folder has the same remedy in the check as for gateways")
    func linkedFolder() async throws {
        symlink("/etc", scratch.file("v2/agents/link"))
        let error = await #expect(throws: StoreError.self) { _ = try await store.read("agents/link") }
        #expect(error?.reason.contains("is a symbolic link") == true)
        let reason = await check().unusable.first?.reason
        #expect(reason == error?.reason)
    }

    @Test("A value of the greatest version is listed with the remedy to move it away, and cannot be removed")
    func greatest() async throws {
        let (usable, damaged): (StoreKey, StoreKey) = ("acme/challenges/x", "agents/a")
        let greatest = 1 << 53
        try await store.write(usable, .create(seal(usable, version: 1)))
        try await store.write(damaged, .create(seal(damaged, version: 1)))
        let paths = [
            plant(usable, greatest, storedFile(seal(usable, version: 1))), plant(damaged, greatest, bytes("noise")),
        ]
        let unusable = await check().unusable
        #expect(unusable.map(\.path) == paths)
        #expect(unusable.allSatisfy { $0.reason.hasSuffix("; move it out of the store's folder") })
        for (key, path) in zip([usable, damaged], paths) {
            let error = await #expect(throws: StoreError.self) { try await examination.remove(key) }
            #expect(error?.place == path && error?.reason.contains("move it out") == true)
            unlink(path)
        }
        #expect(await check().isFaultless)
    }

    @Test("The list is bounded unless all is asked for, and values that nothing replaces come first")
    func bounded() async throws {
        for number in 100..<130 {
            mkdir(scratch.file("v2/agents/a\(number)"), 0o700)
            plant(try StoreKey("agents/a\(number)"), 1, [])
        }
        scratch.write("v2/agents/a100/0.json", "foreign")
        let report = await check()
        func lines(_ all: Bool) -> Int {
            report.text(all: all) { _ in "" }.split(separator: "\n").count { $0.contains("is empty") }
        }
        #expect(lines(false) == 20 && lines(true) == 30)
        #expect(report.text { _ in "" }.contains("and 10 more; --all shows them"))
        #expect(report.json()["unusable"]?.array?.count == 20 && report.json(all: true)["unusable"]?.array?.count == 30)
        #expect(report.json()["unusable_count"] == .integer(30))
    }

    @Test("Values that cannot be read in the time for it make the counts lower bounds, and do not fail the check")
    func slow() async throws {
        for number in 0..<20 {
            let key = try StoreKey("agents/a\(number)")
            try await store.write(key, .create(seal(key, version: 1)))
        }
        let findings = await examination.run(within: .zero)
        let count = findings.counts[StoreLayout.credentials] ?? ValueCount()
        #expect(findings.failures.isEmpty && (count.isComplete || !findings.isComplete))
        #expect(count.isComplete ? count.count == 20 : "\(count)".hasPrefix("at least"))
    }
}
