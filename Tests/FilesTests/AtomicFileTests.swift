import Files
import FoundationEssentials
import Glibc
import Testing

@Suite("Replacing a file in one step")
struct AtomicFileTests {
    private let folder = FileManager.default.temporaryDirectory.path + "/hopgate-files-\(UInt64.random(in: 0 ... .max))"

    @Test("The file has mode 0600, replaces the old one, and leaves no temporary file")
    func replaces() throws {
        mkdir(folder, 0o700)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/secret"
        for content in [[UInt8](repeating: 1, count: 100_000), [2], []] {
            try AtomicFile.write(content, to: path)
            #expect(try ConfiguredFile.read(path, limit: 100_000) == content)
        }
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["secret"])
    }

    @Test("A write that fails leaves the folder as it was")
    func fails() throws {
        mkdir(folder, 0o700)
        mkdir(folder + "/taken", 0o700)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        #expect(throws: FileError.self) { try AtomicFile.write([1], to: folder + "/taken") }
        let missing = #expect(throws: FileError.self) { try AtomicFile.write([1], to: folder + "/missing/file") }
        #expect(missing?.code == .notFound && missing?.path == folder + "/missing/file")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["taken"])
    }

    @Test("A file above the limit, a folder and a missing file are distinct errors")
    func reading() throws {
        mkdir(folder, 0o700)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try AtomicFile.write([1, 2, 3], to: folder + "/file")
        func code(_ path: String) -> FileError.Code? {
            #expect(throws: FileError.self) { try ConfiguredFile.read(path, limit: 2) }?.code
        }
        #expect(code(folder + "/file") == .tooLarge)
        #expect(code(folder) == .wrongKind)
        #expect(code(folder + "/none") == .notFound)
    }
}
