import HopProtocol
import Testing

struct IdentifierTests {
    @Test("An id is parsed from its 32 digits")
    func roundTrip() {
        let id = RequestID.random()
        #expect(id.description.count == 32)
        #expect(RequestID(hex: id.description) == id)
        #expect(RequestID(hex: id.description.uppercased()) == id)
        #expect(RequestID(rawValue: 0xAB).description == "000000000000000000000000000000ab")
        let run = RunID.random()
        #expect(RunID(hex: run.description) == run)
    }

    @Test(
        "A text other than 32 hexadecimal digits is not an id",
        arguments: [
            "", "ab", "+0000000000000000000000000000000a", "g0000000000000000000000000000000",
            "0000000000000000000000000000000", "000000000000000000000000000000000", "0000000000000000000000000000000é",
        ]
    )
    func bad(text: String) {
        #expect(RequestID(hex: text) == nil)
        #expect(RunID(hex: text) == nil)
    }

    @Test("Two random ids differ")
    func random() {
        #expect(RequestID.random() != RequestID.random())
    }
}
