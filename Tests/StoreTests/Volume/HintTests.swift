import Store
import TestSupport
import Testing

@Suite("Hints")
struct HintTests {
    private let scratch = ScratchFolder()

    @Test("A process writes its hint although another creates the folder of the first hints at the same time")
    func race() throws {
        let files = try PosixFileSystem(path: scratch.file("v2"), creating: true)
        let volume = Volume(files: InterruptedFileSystem(files: files, losesFolders: true))
        try volume.prepare()
        try volume.write("certs/a", .create(bytes("x")))
        #expect(scratch.names("v2/certs/.changes") == ["1"])
    }
}
