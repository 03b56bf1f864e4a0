import Glibc
import Operations
import Store
import TestSupport
import Testing

@Suite("Files of backups")
struct BackupFileTests {
    private let folder = ScratchFolder()
    private let store: VolumeStore

    init() async throws {
        (store, _, _) = try await VolumeStore.open(path: folder.file("store/v2"), mounted: nil)
    }

    @discardableResult
    private func write(_ name: String, damaged: Bool = false) async throws -> Backup {
        try await BackupFile.write(to: folder.file(name), mounted: nil) { archive throws(StoreError) in
            let summary = try await store.backup(into: archive, mounted: nil, release: "test", time: 1)
            if damaged { try archive.append([UInt8](repeating: 0, count: 100)) }
            return summary
        }.backup
    }

    private func code(_ body: () async throws -> Void) async -> StoreError.Code? {
        (await #expect(throws: StoreError.self) { try await body() })?.code
    }

    @Test("A backup has mode 0600, replaces the old one in one step, and leaves no temporary file")
    func file() async throws {
        for _ in 0..<2 {
            let written = try await write("b.tar")
            let read = try await BackupFile.load(folder.file("b.tar"), mounted: nil)
            #expect(read.cluster == written.cluster && read.fileCount == written.fileCount && read.fileCount == 2)
        }
        #expect(folder.names() == ["b.tar", "store"])
        #expect(folder.mode("b.tar") == 0o600)
        #expect(await code { try await write("no/b.tar") } == .wrongFile)
        #expect(await code { _ = try BackupFile.open(folder.file("nothing")) } == .wrongFile)
    }

    @Test("An archive that cannot be read back replaces nothing")
    func verified() async throws {
        try await write("b.tar")
        let good = try BackupFile.open(folder.file("b.tar")).size()
        #expect(await code { try await write("b.tar", damaged: true) } == .corrupt)
        #expect(try BackupFile.open(folder.file("b.tar")).size() == good)
        #expect(folder.names() == ["b.tar", "store"])
    }

    @Test("A FIFO and a folder are neither replaced nor read")
    func kinds() async throws {
        mkfifo(folder.file("pipe"), 0o600)
        for name in ["pipe", "store"] {
            #expect(await code { try await write(name) } == .wrongFile)
            #expect(await code { _ = try BackupFile.open(folder.file(name)) } == .wrongFile)
        }
        #expect(await code { _ = try BackupFile.open("/dev/null") } == .wrongFile)
        #expect(folder.names() == ["pipe", "store"])
    }
}
