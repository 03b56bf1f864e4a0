import Foundation
import Glibc
import Store
import TestSupport
import Testing

@Suite("A folder of values that has disappeared")
struct LostFolderTests {
    private let scratch = ScratchFolder()

    @Test("It is no empty one: reads and writes fail, no writer makes it again, and no start", .timeLimit(.minutes(1)))
    func lost() async throws {
        let (store, _, _) = try await VolumeStore.open(path: scratch.file("v2"), mounted: nil)
        defer { store.close() }
        try await store.write("agents/a", .create(bytes("one")))
        try FileManager.default.moveItem(atPath: scratch.file("v2/agents"), toPath: scratch.file("away"))
        for call in [
            { () async throws -> Void in _ = try await store.list("agents") },
            { () async throws -> Void in _ = try await store.readAll("agents") },
            { () async throws -> Void in try await store.write("agents/b", .create(bytes("two"))) },
            { () async throws -> Void in try await store.put("agents/b", bytes("two")) },
            { () async throws -> Void in _ = try await VolumeStore.open(path: scratch.file("v2"), mounted: nil) },
        ] {
            let error = await #expect(throws: StoreError.self) { try await call() }
            #expect(error?.code == .gone && error?.place == scratch.file("v2/agents"))
        }
        #expect(!scratch.names("v2").contains("agents"))
        try FileManager.default.moveItem(atPath: scratch.file("away"), toPath: scratch.file("v2/agents"))
        #expect(try await store.list("agents") == ["agents/a"])
    }
}

/// Deletes no version of a value.
private struct KeepingVersions: InterceptedFileSystem {
    let files: any FileSystem

    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
        if call == .unlink, path.hasSuffix("/1.json") { throw FileFault(.unlink, path, EPERM) }
    }
}

@Suite("A private key that cannot be deleted")
struct UndeletedSecretTests {
    @Test("Its removal is complete, and fails with the file; that of another value does not fail")
    func kept() throws {
        let scratch = ScratchFolder()
        let volume = Volume(files: KeepingVersions(files: try scratch.posixFiles()))
        for key: StoreKey in ["certs/a", "agents/a"] { try volume.write(key, .create(bytes("secret"))) }
        let error = #expect(throws: StoreError.self) { try volume.write("certs/a", .remove(nil)) }
        #expect(error?.code == .denied && error?.place == scratch.file("v2/certs/a/1.json"))
        #expect(throws: StoreError.self) { try volume.read("certs/a") }
        try volume.write("agents/a", .remove(nil))
    }
}
