import Glibc
import Store
import TestSupport
import Testing

@Suite("Names and numbers")
struct ValueTests {
    /// Fails to open a version, as a server does that is restarted.
    private struct FailingVersion: InterceptedFileSystem {
        let files: any FileSystem

        func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault) {
            if call == .open, path == "certs/a/1.json" { throw FileFault(.open, path, ESTALE) }
        }
    }

    @Test("An earlier version that cannot be read now is a failure, and not a version that is not there")
    func unreadableEarlier() throws {
        let scratch = ScratchFolder()
        let volume = try scratch.volume()
        for text in ["one", "two"] { try volume.write("certs/a", .put(bytes(text))) }
        scratch.write("v2/certs/a/2.json", "HGV2 value 0 damaged")
        #expect(try volume.earlier("certs/a").map(\.version) == [1])
        let failing = Volume(files: FailingVersion(files: try scratch.posixFiles()))
        let error = #expect(throws: StoreError.self) { try failing.earlier("certs/a") }
        #expect(error?.isTransient == true)
    }

    @Test("An incarnation is a ULID that sorts by time and reads back as it was written")
    func incarnations() throws {
        let known = Incarnation(high: 0x0156_3e3a_b5d3_d676, low: 0x4c61_efb9_9302_bd5b)
        #expect(known.description == "01ARZ3NDEKTSV4RRFFQ69G5FAV")
        #expect(Incarnation("01ARZ3NDEKTSV4RRFFQ69G5FAV") == known)
        #expect(known.milliseconds == 1_469_922_850_259)
        let earlier = Incarnation(milliseconds: 5) { .max }
        let later = Incarnation(milliseconds: 6) { 0 }
        #expect(earlier < later && earlier.description < later.description)
        #expect(Incarnation(high: .max, low: .max).description == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
    }

    @Test(
        "A text that is not a ULID is not an incarnation",
        arguments: [
            "", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01ARZ3NDEKTSV4RRFFQ69G5FAVV", "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FAI", "01ARZ3NDEKTSV4RRFFQ69G5F\u{00c4}",
            "../../../../../../etc/pass",
        ]
    )
    func noIncarnations(_ text: String) {
        #expect(Incarnation(text) == nil)
    }

    @Test(
        "Names outside the alphabet are not keys",
        arguments: [
            "", "/", "a/", "/a", "a//b", ".", "..", "a/../b", ".hidden", "a/.b", "a b", "a\u{0}b", "\u{e4}", "a\\b",
            String(repeating: "x", count: 256), "1/2/3/4/5/6/7/8/9",
        ]
    )
    func badKeys(_ path: String) {
        #expect(throws: StoreError.self) { try StoreKey(path) }
    }

    @Test("A key has a name and a parent")
    func keys() throws {
        let key: StoreKey = "acme/le-1/Account_key.json"
        #expect(key.name == "Account_key.json")
        #expect(key.parent?.path == "acme/le-1")
        let top: StoreKey = "top"
        #expect(top.parent == nil)
        let sibling = try key.parent?.child("other")
        #expect(sibling == "acme/le-1/other")
    }
}
