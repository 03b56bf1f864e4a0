import Certificates
import Foundation
import Testing

@Suite("A folder of the gateway's own")
struct PrivateFolderTests {
    let scratch = Scratch()

    @Test("Of many writers exactly one makes a file; the others find it whole")
    func oneCreator() async throws {
        let folder = try PrivateFolder.make(path: scratch.file("a/b/c"))
        let winners = await withTaskGroup(of: Int?.self) { group in
            for number in 0..<24 {
                group.addTask {
                    let bytes = [UInt8](repeating: UInt8(number), count: 4_096)
                    return (try? folder.create("one", bytes)) == true ? number : nil
                }
            }
            return await group.reduce(into: [Int]()) { if let number = $1 { $0.append(number) } }
        }
        #expect(winners.count == 1)
        #expect(try folder.read("one", limit: 4_096) == [UInt8](repeating: UInt8(winners[0]), count: 4_096))
        #expect(scratch.names("a/b/c") == ["one"])
    }

    @Test("A reader never sees half a publication")
    func whole() async throws {
        let folder = try PrivateFolder.make(path: scratch.file("a"))
        try folder.publish("file", [UInt8](repeating: 0, count: 50_000))
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for round in 1...100 {
                    try? folder.publish("file", [UInt8](repeating: UInt8(round), count: 50_000))
                }
            }
            for _ in 0..<300 {
                let bytes = try? folder.read("file", limit: 50_000)
                #expect(bytes?.count == 50_000 && Set(bytes ?? []).count == 1)
                await Task.yield()
            }
        }
        #expect(scratch.names("a") == ["file"])
    }

    @Test(
        "Names outside the alphabet never reach the file system",
        arguments: ["", ".", "..", ".x", "a/b", "../x", "a\u{0}b", "ä"]
    )
    func badNames(_ name: String) throws {
        let folder = try PrivateFolder.make(path: scratch.file("a"))
        #expect(throws: FileError.self) { try folder.read(name, limit: 10) }
        #expect(throws: FileError.self) { try folder.publish(name, []) }
        #expect(throws: FileError.self) { _ = try folder.create(name, []) }
        #expect(scratch.names("") == ["a"])
        #expect(scratch.names("a").isEmpty)
    }

    @Test("A publication replaces a symbolic link instead of writing through it")
    func linkReplaced() throws {
        let folder = try PrivateFolder.make(path: scratch.file("a"))
        _ = scratch.write("victim", "keep me")
        scratch.link("a/file", to: scratch.file("victim"))
        try folder.publish("file", [1])
        #expect(scratch.read("victim") == Array("keep me".utf8))
        #expect(try folder.read("file", limit: 1) == [1])
    }

    @Test("A pipe in place of a file does not block the reader")
    func pipe() throws {
        let folder = try PrivateFolder.make(path: scratch.file("a"))
        #expect(mkfifo(scratch.file("a/pipe"), 0o600) == 0)
        #expect(throws: FileError.self) { try folder.read("pipe", limit: 10) }
    }

    @Test("A file in place of the folder, and a folder that cannot be made, are told plainly")
    func notAFolder() throws {
        _ = scratch.write("file", "x")
        let error = #expect(throws: FileError.self) { try PrivateFolder.make(path: scratch.file("file")) }
        #expect(error?.code == .wrongKind)
        #expect(throws: FileError.self) { try PrivateFolder.make(path: scratch.file("file/below")) }
        #expect(throws: FileError.self) { try PrivateFolder.make(path: "/proc/none/here") }
    }
}
