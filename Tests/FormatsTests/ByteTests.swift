import Formats
import Foundation
import Testing

@Suite("Bytes as texts, checksums and binary fields")
struct ByteTests {
    @Test("Base64url agrees with Foundation at every length and decodes what it encodes")
    func base64() {
        #expect(Base64URL.encode(Array("foobar".utf8)) == "Zm9vYmFy" && Base64URL.encode([0xfb, 0xff]) == "-_8")
        for count in 0..<200 {
            let bytes = (0..<count).map { _ in UInt8.random(in: .min ... .max) }
            let text = Base64URL.encode(bytes)
            let standard = Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_")
            #expect(text == standard.replacing("=", with: ""))
            #expect(Base64URL.decode(text) == bytes)
        }
        #expect(Base64URL.decode("AA") == [0] && Base64URL.decode("AAA") == [0, 0])
    }

    @Test(
        "Base64url rejects other characters, padding, impossible lengths and second texts of one value",
        arguments: ["A", "AB", "AAB", "AA=", "AA==", "+/", "+/8", "A A", "A\u{0}AA", "AAAAA", "\u{e4}"]
    )
    func notBase64(_ text: String) {
        #expect(Base64URL.decode(text) == nil)
    }

    @Test("Hexadecimal text is written in lower case and read in either case")
    func hex() {
        #expect(Hex.string([0x00, 0x9a, 0xff]) == "009aff" && Hex.string([]) == "")
        #expect(Hex.string(0xfe_dcba_9876_5432 as UInt64) == "00fedcba98765432")
        #expect(Hex.bytes("009AfF") == [0x00, 0x9a, 0xff] && Hex.bytes("") == [])
        for text in ["0", "000", "0g", " 0", "0x", "\u{e4}"] { #expect(Hex.bytes(text) == nil, "\(text)") }
    }

    @Test("The checksum is CRC32C for every length and alignment")
    func checksums() {
        #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xe306_9283)
        #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
        #expect(CRC32C.checksum([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
        #expect(CRC32C.checksum([]) == 0)
        let long = (0..<1_000).map { UInt8($0 & 0xff) }
        for cut in [0, 1, 7, 8, 9, 500, 999] {
            var state = CRC32C.State()
            long[..<cut].withUnsafeBytes { state.update($0) }
            long[cut...].withUnsafeBytes { state.update($0) }
            #expect(state.value == CRC32C.checksum(long))
        }
    }

    @Test("Binary fields are little-endian and are read as they were written")
    func fields() throws {
        var writer = ByteWriter()
        writer.write(0x0102 as UInt16)
        writer.write(-2 as Int64)
        writer.write([7, 8])
        #expect(writer.bytes == [2, 1, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7, 8])
        writer.bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            #expect(reader.read(UInt16.self) == 0x0102 && reader.read(Int64.self) == -2)
            #expect(reader.position == 10 && reader.remaining == 2)
            #expect(reader.read(UInt32.self) == nil && reader.read(count: 3) == nil && reader.read(count: -1) == nil)
            #expect(reader.read(count: 2)?.elementsEqual([7, 8]) == true && reader.remaining == 0)
        }
    }
}
