import Formats
import Testing

@Suite("Times as texts")
struct UnixTimeTests {
    @Test("The examples of RFC 9110 and RFC 3339 are parsed")
    func examples() {
        #expect(UnixTime(httpDate: "Sun, 06 Nov 1994 08:49:37 GMT")?.seconds == 784_111_777)
        #expect(UnixTime(rfc3339: "1985-04-12T23:20:50.52Z")?.seconds == 482_196_050)
        #expect(UnixTime(rfc3339: "1996-12-19T16:39:57-08:00")?.seconds == 851_042_397)
        #expect(UnixTime(rfc3339: "1996-12-19t16:39:57.000000001z")?.rfc3339 == "1996-12-19T16:39:57Z")
        #expect(UnixTime(rfc3339: "1990-12-31T23:59:60Z")?.rfc3339 == "1991-01-01T00:00:00Z")
        #expect(UnixTime(rfc3339: "1937-01-01T12:00:27.87+00:20") == nil)
    }

    @Test("Every day from 1970 to 9999 parses to itself in both formats")
    func everyDay() {
        var seconds: Int64 = 43_199
        var weekday = 4
        let names = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        while seconds < UnixTime.latest.seconds {
            let time = UnixTime(seconds: seconds)
            guard UnixTime(rfc3339: time.rfc3339) == time, UnixTime(httpDate: time.httpDate) == time,
                time.httpDate.hasPrefix(names[weekday])
            else {
                Issue.record("\(seconds): \(time.rfc3339), \(time.httpDate)")
                return
            }
            seconds += 86_400
            weekday = (weekday + 1) % 7
        }
        #expect(UnixTime.latest.rfc3339 == "9999-12-31T23:59:59Z")
        #expect(UnixTime.earliest.httpDate == "Thu, 01 Jan 1970 00:00:00 GMT")
    }

    @Test(
        "A text that is not an RFC 3339 time is rejected",
        arguments: [
            "", "2026", "2026-03-01", "2026-03-01T12:00:00", "2026-03-01T12:00Z", "2026-13-01T12:00:00Z",
            "2026-02-29T12:00:00Z", "2026-00-01T12:00:00Z", "2026-03-00T12:00:00Z", "2026-03-01T24:00:00Z",
            "2026-03-01T12:60:00Z", "2026-03-01T12:00:61Z", "2026-03-01T12:00:00.Z", "2026-03-01T12:00:00+1:00",
            "2026-03-01T12:00:00+24:00", "2026-03-01T12:00:00Zx", "2026-03-01 12:00:00Z", "+026-03-01T12:00:00Z",
            "2026-03-01T12:00:00.123", "२०२६-03-01T12:00:00Z", "1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z",
            "2026-03-01T12:00:00.1234567890123456789012345678901234567890123456789012345678901234567890Z",
        ]
    )
    func invalidRFC3339(_ text: String) {
        #expect(UnixTime(rfc3339: text) == nil)
    }

    @Test("The strict form of RFC 3339 is UTC in capital letters; times before 1970 become the earliest")
    func utc() {
        for (seconds, text): (Int64, String) in [
            (0, "1970-01-01T00:00:00Z"), (951_782_399, "2000-02-28T23:59:59Z"), (951_782_400, "2000-02-29T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"), (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            #expect(UnixTime(seconds: seconds).description == text)
            #expect(UnixTime(rfc3339UTC: text)?.seconds == seconds)
        }
        for _ in 0..<2_000 {
            let time = UnixTime(seconds: .random(in: 0...253_402_300_799))
            #expect(UnixTime(rfc3339UTC: time.description) == time)
        }
        for text in ["0000-01-01T00:00:00Z", "0000-02-29T12:00:00Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z"] {
            #expect(UnixTime(rfc3339UTC: text) == .earliest)
        }
        #expect(UnixTime(rfc3339UTC: "2026-01-31T12:00:00.123Z")?.description == "2026-01-31T12:00:00Z")
        #expect(UnixTime(rfc3339UTC: "2026-01-31T12:00:60Z")?.description == "2026-01-31T12:01:00Z")
        #expect(UnixTime(rfc3339UTC: "9999-12-31T23:59:60Z") == .latest)
        for text in [
            "", "2026-01-31", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z", "2026-01-01t00:00:00z", "2026-01-01T00:00:00+00:00", "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00z", "2026-01-01t00:00:00Z", "2026-01-01T00:00:00Zx", "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.12345678901234567890Z", "20\u{e4}6-01-01T00:00:00Z",
        ] { #expect(UnixTime(rfc3339UTC: text) == nil, "\(text)") }
    }

    @Test(
        "A text that is not an IMF-fixdate is rejected",
        arguments: [
            "", "120", "Sun, 06 Nov 1994 08:49:37 UTC", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
            "Sun, 31 Nov 1994 08:49:37 GMT", "Xxx, 06 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06 Nov 1969 08:49:37 GMT",
        ]
    )
    func invalidHTTPDate(_ text: String) {
        #expect(UnixTime(httpDate: text) == nil)
    }

    @Test("Arithmetic saturates at 1970 and 9999")
    func sums() {
        #expect(UnixTime(seconds: 10) + .max == .latest)
        #expect(UnixTime(seconds: 10) + .min == .earliest)
        #expect(UnixTime(seconds: 10) - .min == .latest)
        #expect(UnixTime(seconds: 10) - 20 == .earliest)
        #expect(UnixTime(seconds: 10) + .milliseconds(20_999) == UnixTime(seconds: 30))
        #expect(UnixTime(seconds: 10) + .seconds(Int64.max) == .latest)
        #expect(UnixTime(seconds: 10) + 20 == UnixTime(seconds: 30))
        #expect(UnixTime(seconds: 10) - UnixTime(seconds: 30) == -20)
    }
}
