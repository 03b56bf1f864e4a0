import Foundation
import Glibc
import Store
import TestSupport
import Testing

/// The file systems that behave alike for the store.
enum LocalFileSystem: String, CaseIterable, Sendable {
    case posix
    case memory

    /// Creates an empty file system. The owner has to live as long as it.
    func make() throws -> (files: any FileSystem, owner: ScratchFolder?) {
        switch self {
        case .posix:
            let scratch = ScratchFolder()
            return (try PosixFileSystem(path: scratch.file("v2"), creating: true), scratch)
        case .memory: return (MemoryFileSystem(), nil)
        }
    }
}

extension FileSystem {
    fileprivate func create(_ path: String, _ text: String = "") throws {
        let file = try open(path, .createNew)
        #expect(try file.write(bytes(text)[...], at: 0) == text.utf8.count)
        try file.sync()
    }

    fileprivate func text(_ path: String) throws -> String {
        String(decoding: try open(path, .read).read(at: 0, count: 1_000), as: UTF8.self)
    }

    fileprivate func names(_ path: String) throws -> [String] { try list(path, fresh: true, limit: 100).names.sorted() }
}

private func fault(_ body: () throws -> Void) -> Int32? {
    do {
        try body()
        return nil
    } catch {
        return (error as? FileFault)?.number ?? -1
    }
}

@Suite("A file system")
struct FileSystemTests {
    @Test("A file is created once, written at any offset, and read in parts", arguments: LocalFileSystem.allCases)
    func contents(_ kind: LocalFileSystem) throws {
        let (files, owner) = try kind.make()
        defer { withExtendedLifetime(owner) {} }
        let file = try files.open("a", .createNew)
        #expect(fault { _ = try files.open("a", .createNew) } == EEXIST)
        #expect(try file.read(at: 0, count: 10) == [])
        #expect(try file.write([1, 2, 3], at: 2) == 3)
        #expect(try file.write([9], at: 3) == 1)
        try file.syncData()
        #expect(try file.read(at: 0, count: 10) == [0, 0, 1, 9, 3])
        #expect(try file.read(at: 3, count: 1) == [9] && file.read(at: 5, count: 1) == [])
        let update = try files.open("a", .update)
        #expect(try update.write([7, 7], at: 4) == 2)
        let reader = try files.open("a", .read)
        #expect(try reader.read(at: 0, count: 10) == [0, 0, 1, 9, 7, 7])
        #expect(reader.status.size == 6 && file.status.size == 0)
        #expect(fault { _ = try reader.write([1], at: 0) } == EBADF)
        #expect(fault { _ = try file.write([1], at: .max) } == EFBIG)
        for access in [FileAccess.read, .update] { #expect(fault { _ = try files.open("b", access) } == ENOENT) }
    }

    @Test("The attributes are those of a private file or folder", arguments: LocalFileSystem.allCases)
    func attributes(_ kind: LocalFileSystem) throws {
        let (files, owner) = try kind.make()
        defer { withExtendedLifetime(owner) {} }
        try files.makeFolder("f")
        try files.create("f/a", "text")
        try files.link("f/a", to: "b")
        let (folder, file, other) = (try files.status("f"), try files.status("f/a"), try files.status("b"))
        #expect(folder.kind == .folder && folder.mode == 0o700 && folder.owner == geteuid())
        #expect(file.kind == .file && file.mode == 0o600 && file.size == 4 && file.links == 2)
        #expect(file == other && file.inode != folder.inode)
        #expect(!folder.isOpenToOthers && !folder.isUnusual && !file.isOpenToOthers && !file.isUnusual)
        #expect(try files.list("f", fresh: false, limit: 1).status.inode == folder.inode)
        #expect(fault { _ = try files.status("f/b") } == ENOENT)
        #expect(fault { _ = try files.status("b/a") } == ENOTDIR)
    }

    @Test(
        "A link fails if the name is in use, and keeps the file when the first name goes",
        arguments: LocalFileSystem.allCases
    )
    func links(_ kind: LocalFileSystem) throws {
        let (files, owner) = try kind.make()
        defer { withExtendedLifetime(owner) {} }
        try files.makeFolder("f")
        try files.create("a", "1")
        try files.create("b", "2")
        #expect(fault { try files.link("a", to: "b") } == EEXIST)
        #expect(fault { try files.link("a", to: "f") } == EEXIST)
        #expect(fault { try files.link("c", to: "d") } == ENOENT)
        #expect(fault { try files.link("a", to: "g/a") } == ENOENT)
        #expect(fault { try files.link("f", to: "g") } == EPERM)
        try files.link("a", to: "f/a")
        try files.unlink("a")
        #expect(try files.text("f/a") == "1" && files.status("f/a").links == 1)
    }

    @Test(
        "A file stays readable while it is open, although its name is gone or another's",
        arguments: LocalFileSystem.allCases
    )
    func openFiles(_ kind: LocalFileSystem) throws {
        let (files, owner) = try kind.make()
        defer { withExtendedLifetime(owner) {} }
        try files.create("a", "old")
        let removed = try files.open("a", .update)
        try files.unlink("a")
        #expect(fault { try files.unlink("a") } == ENOENT)
        try files.create("a", "new")
        #expect(try removed.read(at: 0, count: 9) == bytes("old") && files.text("a") == "new")
        #expect(try removed.write([0x4f], at: 0) == 1 && removed.read(at: 0, count: 9) == bytes("Old"))
        let replaced = try files.open("a", .read)
        try files.create("b", "newer")
        try files.rename("b", to: "a")
        #expect(try replaced.read(at: 0, count: 9) == bytes("new") && files.text("a") == "newer")
    }

    @Test("A rename replaces a file or an empty folder, and nothing else", arguments: LocalFileSystem.allCases)
    func renaming(_ kind: LocalFileSystem) throws {
        let (files, owner) = try kind.make()
        defer { withExtendedLifetime(owner) {} }
        for folder in ["f", "f/inner", "g", "h"] { try files.makeFolder(folder) }
        try files.create("f/a", "1")
        try files.create("b", "2")
        try files.rename("b", to: "f/a")
        #expect(try files.text("f/a") == "2" && files.names("") == ["f", "g", "h"])
        try files.link("f/a", to: "b")
        // Two names of one file: nothing happens.
        try files.rename("b", to: "f/a")
        #expect(try files.names("") == ["b", "f", "g", "h"])
        #expect(fault { try files.rename("b", to: "g") } == EISDIR)
        #expect(fault { try files.rename("g", to: "b") } == ENOTDIR)
        #expect(fault { try files.rename("g", to: "f") } == ENOTEMPTY)
        #expect(fault { try files.rename("f", to: "f/inner/f") } == EINVAL)
        #expect(fault { try files.rename("c", to: "d") } == ENOENT)
        #expect(fault { try files.rename("b", to: "x/b") } == ENOENT)
        try files.rename("f", to: "g")
        #expect(try files.names("") == ["b", "g", "h"] && files.names("g") == ["a", "inner"])
        try files.rename("g/inner", to: "h/inner")
        #expect(try files.names("h") == ["inner"])
    }

    @Test("Folders are listed up to a limit, and removed when they are empty", arguments: LocalFileSystem.allCases)
    func folders(_ kind: LocalFileSystem) throws {
        let (files, owner) = try kind.make()
        defer { withExtendedLifetime(owner) {} }
        try files.makeFolder("f")
        #expect(fault { try files.makeFolder("f") } == EEXIST)
        #expect(fault { try files.makeFolder("g/h") } == ENOENT)
        try files.create("f/a")
        try files.create("f/b")
        #expect(try files.names("f") == ["a", "b"] && files.list("f", fresh: false, limit: 2).names.count == 2)
        #expect(fault { _ = try files.list("f", fresh: false, limit: 1) } == EFBIG)
        let folder = try files.openFolder("f")
        #expect(try folder.list(limit: 9).names.count == 2 && folder.open("a").status.size == 0)
        #expect(fault { try files.removeFolder("f") } == ENOTEMPTY)
        #expect(fault { try files.removeFolder("f/a") } == ENOTDIR)
        #expect(fault { try files.unlink("f") } == EISDIR)
        for call in [files.forceSync, files.syncFolder, { _ = try files.list($0, fresh: true, limit: 9) }] {
            try call("")
            try call("f")
            #expect(fault { try call("f/a") } == ENOTDIR)
            #expect(fault { try call("g") } == ENOENT)
            #expect(fault { try call("f/a/b") } == ENOTDIR)
        }
        #expect(fault { _ = try files.open("f", .read) } == EISDIR)
        #expect(fault { _ = try files.open("f/a/b", .read) } == ENOTDIR)
        for name in ["f/a", "f/b"] { try files.unlink(name) }
        try files.removeFolder("f")
        #expect(try files.names("") == [])
        #expect(fault { try files.removeFolder("f") } == ENOENT)
    }

    @Test("Every operation that the store needs works", arguments: LocalFileSystem.allCases)
    func selfTest(_ kind: LocalFileSystem) throws {
        let (files, owner) = try kind.make()
        defer { withExtendedLifetime(owner) {} }
        let volume = Volume(files: files)
        try volume.prepare()
        #expect(volume.selfTest().problems == [])
    }

    @Test("Memory is full when its files and names take up its capacity, until some are removed and closed")
    func capacity() throws {
        let files = MemoryFileSystem(capacity: 2 * MemoryFileSystem.nameCost + 1_000)
        let much = [UInt8](repeating: 1, count: 1_000)[...]
        func write(_ bytes: ArraySlice<UInt8>, _ path: String, at offset: UInt64 = 0) -> Int32? {
            fault { _ = try files.open(path, .update).write(bytes, at: offset) }
        }
        try files.create("a")
        try files.link("a", to: "b")
        #expect(write(much, "a") == nil)
        #expect(write([1], "a", at: 1_000) == ENOSPC && write([1], "a", at: UInt64(Int.max)) == ENOSPC)
        #expect(fault { try files.create("c") } == ENOSPC)
        #expect(fault { try files.makeFolder("c") } == ENOSPC)
        #expect(fault { try files.link("a", to: "c") } == ENOSPC)
        // Overwriting and renaming need no space.
        #expect(write([2], "a", at: 999) == nil)
        try files.rename("b", to: "c")
        try files.unlink("c")
        try files.create("b")
        #expect(write([1], "b") == ENOSPC)
        do {
            let open = try files.open("a", .read)
            try files.unlink("a")
            #expect(write([1], "b") == nil && write(much, "b") == ENOSPC)
            #expect(try open.read(at: 999, count: 9) == [2])
        }
        #expect(write(much, "b") == nil)
    }
}

@Suite("Faults of the file system")
struct FileFaultTests {
    @Test("The message about a denied call names the user who may make it, or the mode that forbids it")
    func denial() {
        let scratch = ScratchFolder()
        defer { scratch.remove() }
        func reason(_ path: String) -> String { StoreError(FileFault(.open, path, EACCES)).reason }
        let unknown = "open failed: permission denied; give the folder to the user that the gateway runs as"
        #expect(reason(scratch.file("none/none")) == unknown)
        #expect(reason(scratch.file("none")) == unknown)
        chmod(scratch.path, 0o500)
        #expect(reason(scratch.file("none")).hasSuffix("allow its owner to use it with: chmod u+rwx \(scratch.path)"))
        chmod(scratch.path, 0o700)
        // Only root can give a folder to another user.
        let isRoot = geteuid() == 0
        if isRoot { chown(scratch.path, 54_321, 54_321) }
        let foreign = isRoot ? scratch.path : "/etc"
        let owner = isRoot ? "54321" : "root (0)"
        for path in [foreign, foreign + "/none"] {
            let text = reason(path)
            let start = "open failed: permission denied; \(foreign) belongs to user \(owner), and this command runs as "
            #expect(text.hasPrefix(start) && text.hasSuffix(": run it as that user"), "\(text)")
        }
    }

    @Test("A folder that cannot be created is named with the one that denies it")
    func creation() async throws {
        // Nothing is denied to root.
        guard geteuid() != 0 else { return }
        let scratch = ScratchFolder()
        defer { scratch.remove() }
        chmod(scratch.path, 0o500)
        let store = scratch.file("store")
        let error = await #expect(throws: StoreError.self) {
            _ = try await VolumeStore.open(path: store + "/v2", mounted: nil)
        }
        chmod(scratch.path, 0o700)
        let reason = "cannot be created: \(scratch.path): mkdir: Permission denied; set store.path to a folder"
        #expect(error?.place == store && error?.reason.hasPrefix(reason) == true)
    }
}
