import Foundation
import Glibc
import Store
import TestSupport
import Testing

/// Files that an attacker with write access to the volume may leave there.
@Suite("A hostile volume")
struct AttackTests {
    let scratch = ScratchFolder()

    @Test(
        "Files that other users may read or write are refused and counted; the process's own groups are not other users"
    )
    func modes() throws {
        let volume = try scratch.volume()
        try volume.write("agents/a", .create([1]))
        let file = scratch.file("v2/agents/a/1.json")
        for mode in [0o604, 0o602, 0o666, 0o601] {
            chmod(file, mode_t(mode))
            #expect(code { _ = try volume.read("agents/a") } == .refused)
        }
        #expect(volume.counts.refused == 4)
        for mode in [0o600, 0o660, 0o640] {
            chmod(file, mode_t(mode))
            #expect(try volume.read("agents/a").bytes == [1])
        }
        chown(file, geteuid(), 54_321)
        chmod(file, 0o660)
        #expect(code { _ = try volume.read("agents/a") } == .refused)
        chmod(file, 0o600)
        #expect(try volume.read("agents/a").bytes == [1])
        chmod(scratch.file("v2/agents"), 0o2770)
        #expect(try volume.keys("agents").count == 1)
        chmod(scratch.file("v2/agents"), 0o707)
        #expect(code { _ = try volume.keys("agents") } == .refused)
    }

    @Test("A store is not opened while a foreign file or folder takes the place of one of its folders")
    func foreignFolders() throws {
        let volume = try scratch.volume()
        for folder in ["", "agents", "replicas", "tmp"] {
            let path = scratch.file("v2/\(folder)")
            chmod(path, 0o707)
            #expect(code { try volume.prepare() } == .refused)
            chmod(path, 0o700)
        }
        rmdir(scratch.file("v2/certs"))
        symlink(scratch.path, scratch.file("v2/certs"))
        #expect(code { try volume.prepare() } == .refused)
        unlink(scratch.file("v2/certs"))
        try Data([1]).write(to: URL(fileURLWithPath: scratch.file("v2/certs")))
        #expect(code { try volume.prepare() } == .refused)
        unlink(scratch.file("v2/certs"))
        try volume.prepare()
    }

    @Test("No symbolic link is followed, on any component of a path", arguments: [false, true])
    func symbolicLinks(_ asFolder: Bool) throws {
        let volume = try scratch.volume()
        try volume.write("agents/good", .create([1]))
        let outside = scratch.file("outside")
        try FileManager.default.createDirectory(atPath: outside, withIntermediateDirectories: false)
        try Data([9]).write(to: URL(fileURLWithPath: outside + "/1.json"))
        chmod(outside, 0o700)
        chmod(outside + "/1.json", 0o600)
        if asFolder {
            symlink(outside, scratch.file("v2/agents/evil"))
        } else {
            mkdir(scratch.file("v2/agents/evil"), 0o700)
            symlink(outside + "/1.json", scratch.file("v2/agents/evil/1.json"))
        }
        #expect(code { _ = try volume.read("agents/evil") } == .refused)
        #expect(volume.counts.refused >= 1)
        if asFolder {
            #expect(code { try volume.write("agents/evil", .replace(1, [2])) } == .refused)
            #expect(code { try volume.write("agents/evil", .create([2])) } != nil)
            #expect(try Data(contentsOf: URL(fileURLWithPath: outside + "/1.json")) == Data([9]))
            #expect(scratch.names("outside") == ["1.json"])
        }
        // The other values are still served.
        let polled = PolledValues(volume: volume, prefix: "agents")
        try polled.poll()
        #expect(polled.current == ["good": StoredValue(bytes: [1], version: 1)])
        #expect(polled.problems["evil"]?.code == .refused)
    }

    private static func fault(_ body: () throws(FileFault) -> Void) -> FileFault? {
        do {
            try body()
            return nil
        } catch {
            return error
        }
    }

    @Test("The fallback for openat2 follows no symbolic link either")
    func fallback() throws {
        mkdir(scratch.file("real"), 0o700)
        try Data([1]).write(to: URL(fileURLWithPath: scratch.file("real/file")))
        symlink(scratch.file("real"), scratch.file("way"))
        symlink(scratch.file("real/file"), scratch.file("real/end"))
        func fault(_ name: String) -> FileFault? {
            Self.fault { () throws(FileFault) in
                close(try DescriptorOpener().walk(scratch.file(name), O_RDONLY, mode: 0, call: .open))
            }
        }
        #expect(fault("real/file") == nil)
        #expect(fault("way/file")?.kind == .symbolicLink && fault("real/end")?.kind == .symbolicLink)
        #expect(fault("real/none")?.kind == .missing)
    }

    @Test(
        "The store's own folder may not be a symbolic link; the path to it may contain one",
        arguments: [false, true]
    )
    func linkedRoot(_ isDangling: Bool) async throws {
        try scratch.volume().prepare()
        symlink(scratch.path, scratch.file("way"))
        let found = try Volume.at(scratch.file("way/v2"), creating: false)
        try found.prepare()
        let way = try Volume.at(scratch.file("way"), creating: false, mayBeLink: true)
        #expect(found.files.root == "\(way.files.root)/v2")
        rename(scratch.file("v2"), scratch.file("elsewhere"))
        symlink(scratch.file(isDangling ? "nothing" : "elsewhere"), scratch.file("v2"))
        for creating in [false, true] {
            #expect(code { _ = try Volume.at(scratch.file("v2"), creating: creating) } == .refused)
        }
        // A volume that was opened before refuses it too.
        #expect(code { _ = try found.keys("agents") } != nil)
        let error = await #expect(throws: StoreError.self) {
            try await VolumeStore.open(path: scratch.file("v2"), mounted: nil)
        }
        #expect(error?.description.hasPrefix("\(scratch.file("v2")): is a symbolic link") == true)
        let other = await #expect(throws: StoreError.self) {
            try await VolumeStore.openFounded(path: scratch.file("v2"), mounted: nil)
        }
        #expect(other == error && scratch.names(".").contains("nothing") == false)
    }

    @Test("A path whose components are renamed while it is resolved is resolved again, a few times")
    func renamedOnTheWay() {
        var calls = 0
        func answer(_ failures: Int, _ number: Int32) -> FileFault? {
            calls = 0
            return Self.fault { () throws(FileFault) in
                _ = try DescriptorOpener.descriptor("/a/b", .open) {
                    calls += 1
                    errno = number
                    return calls > failures ? 7 : -1
                }
            }
        }
        #expect(answer(3, EAGAIN) == nil && calls == 4)
        let fault = answer(.max, EAGAIN)
        #expect(fault?.number == EAGAIN && calls == 8)
        #expect(fault.map { StoreError($0).isTransient } == true)
        #expect(answer(100, EINTR) == nil && calls == 101)
        #expect(answer(1, EACCES)?.kind == .denied && calls == 1)
    }

    @Test("Pipes, folders, sockets and devices in the place of files are refused and block nothing")
    func kinds() throws {
        let volume = try scratch.volume()
        for name in ["pipe", "folder", "device"] { mkdir(scratch.file("v2/agents/\(name)"), 0o700) }
        mkfifo(scratch.file("v2/agents/pipe/1.json"), 0o600)
        mkdir(scratch.file("v2/agents/folder/1.json"), 0o700)
        #expect(code { _ = try volume.read("agents/pipe") } == .refused)
        #expect(code { _ = try volume.read("agents/folder") } == .refused)
        if mknod(scratch.file("v2/agents/device/1.json"), S_IFCHR | 0o600, 0x0105) == 0 {
            #expect(code { _ = try volume.read("agents/device") } != nil)
        }
        try Data([1]).write(to: URL(fileURLWithPath: scratch.file("v2/agents/file")))
        #expect(code { _ = try volume.read("agents/file") } == .refused)
    }

    @Test("Files larger than their limit are not read")
    func sizes() throws {
        let volume = try scratch.volume()
        try volume.write("agents/a", .create([1]))
        let file = scratch.file("v2/agents/a/1.json")
        truncate(file, Volume.valueLimit + 100)
        #expect(code { _ = try volume.read("agents/a") } == .tooLarge)
        // A sparse file larger than any memory.
        truncate(file, 1 << 42)
        #expect(code { _ = try volume.read("agents/a") } == .tooLarge)
        #expect(volume.counts.tooLarge == 2)
        let name = randomIncarnation()
        let writer = JournalWriter(volume: volume)
        try writer.begin(as: name, info: [1], now: volume.now())
        truncate(scratch.file("v2/replicas/\(name)/hb"), 1 << 40)
        let reader = JournalReader(volume: volume, replica: name)
        #expect(code { _ = try reader.poll() } == .tooLarge)
        // The writer replaces it.
        #expect(try writer.tick(now: volume.now()) == .committed)
        #expect(try reader.poll() != nil)
    }

    @Test("Foreign names are counted and have no effect")
    func names() throws {
        let volume = try scratch.volume()
        try volume.write("agents/a", .create([1]))
        for name in ["0.json", "01.json", "2.jsonx", "2", "-1.json", "99999999999999999999.json", "2.json ", "2 .json"]
        {
            try Data([9]).write(to: URL(fileURLWithPath: scratch.file("v2/agents/a/\(name)")))
        }
        for name in ["\u{e4}", "a b", "x\n"] { mkdir(scratch.file("v2/agents/\(name)"), 0o700) }
        #expect(try volume.read("agents/a") == StoredValue(bytes: [1], version: 1))
        #expect(try volume.keys("agents") == ["agents/a"])
        #expect(volume.counts.badNames >= 5)
        for name in ["nobody", "01ARZ3NDEKTSV4RRFFQ69G5FAV.old", ".x"] {
            mkdir(scratch.file("v2/replicas/\(name)"), 0o700)
        }
        #expect(try volume.replicaFolders() == [])
        // The largest version number is ignored, because it would have no successor.
        try Data([9]).write(to: URL(fileURLWithPath: scratch.file("v2/agents/a/\(UInt64.max).json")))
        #expect(try volume.write("agents/a", .replace(1, [2])) == 2)
    }

    @Test("The error for an unusable file names the reason and the remedy")
    func messages() throws {
        chmod(scratch.path, 0o755)
        let volume = try scratch.volume()
        try volume.write("agents/a", .create([1]))
        chmod(scratch.file("v2/agents/a/1.json"), 0o644)
        do {
            _ = try volume.read("agents/a")
            Issue.record("a world-readable file was read")
        } catch {
            let file = scratch.file("v2/agents/a/1.json")
            #expect(error.description == "\(file): is open to other users (mode 644); fix it with: chmod 600 \(file)")
        }
    }
}
