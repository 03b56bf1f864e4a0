import Files
import Glibc
import TestSupport
import Testing

@Suite("Replacing a file in one step")
struct AtomicFileTests {
    private let folder = ScratchFolder()

    @Test("The file has mode 0600, replaces the old one, and leaves no temporary file")
    func replaces() throws {
        let path = folder.file("secret")
        for content in [[UInt8](repeating: 1, count: 100_000), [2], []] {
            try AtomicFile.write(content, to: path)
            #expect(try ConfiguredFile.read(path, limit: 100_000) == content)
        }
        #expect(folder.mode("secret") == 0o600)
        #expect(folder.names() == ["secret"])
    }

    @Test("A write that fails leaves the folder as it was")
    func fails() throws {
        mkdir(folder.file("taken"), 0o700)
        #expect(throws: FileError.self) { try AtomicFile.write([1], to: folder.file("taken")) }
        let missing = #expect(throws: FileError.self) { try AtomicFile.write([1], to: folder.file("missing/file")) }
        #expect(missing?.code == .notFound && missing?.path == folder.file("missing/file"))
        #expect(folder.names() == ["taken"])
    }

    @Test("A file above the limit, a folder and a missing file are distinct errors")
    func reading() throws {
        try AtomicFile.write([1, 2, 3], to: folder.file("file"))
        func code(_ path: String) -> FileError.Code? {
            #expect(throws: FileError.self) { try ConfiguredFile.read(path, limit: 2) }?.code
        }
        #expect(code(folder.file("file")) == .tooLarge)
        #expect(code(folder.path) == .wrongKind)
        #expect(code(folder.file("none")) == .notFound)
    }
}
