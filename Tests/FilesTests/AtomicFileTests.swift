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
        mkfifo(folder.file("pipe"), 0o600)
        symlink("pipe", folder.file("link"))
        symlink("nothing", folder.file("dangling"))
        for name in ["taken", "pipe", "link", "dangling"] {
            let error = #expect(throws: FileError.self) { try AtomicFile.write([1], to: folder.file(name)) }
            #expect(error?.code == .wrongKind && error?.path == folder.file(name), "\(name)")
        }
        let missing = #expect(throws: FileError.self) { try AtomicFile.write([1], to: folder.file("missing/file")) }
        #expect(missing?.code == .notFound && missing?.path == folder.file("missing/file"))
        #expect(missing?.reason == "the folder \(folder.file("missing")) does not exist; create it first")
        #expect(folder.names() == ["dangling", "link", "pipe", "taken"])
        do {
            let file = try AtomicFile(at: folder.file("new"))
            #expect(write(file.number, "x", 1) == 1)
        }
        #expect(folder.names() == ["dangling", "link", "pipe", "taken"])
    }

    @Test("A symbolic link stays, and the file that it leads to is replaced")
    func keepsLinks() throws {
        mkdir(folder.file("inner"), 0o700)
        try AtomicFile.write([1], to: folder.file("inner/real"))
        symlink("inner/real", folder.file("latest"))
        try AtomicFile.write([2], to: folder.file("latest"))
        #expect(try ConfiguredFile.read(folder.file("inner/real"), limit: 1) == [2])
        #expect(folder.names() == ["inner", "latest"] && folder.names("inner") == ["real"])
        var status = stat()
        #expect(lstat(folder.file("latest"), &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
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
