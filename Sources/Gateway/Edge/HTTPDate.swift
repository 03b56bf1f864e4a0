import Glibc
import NIOCore

/// IMF-fixdate (RFC 9110 §5.6.7), kept for a second.
struct HTTPDate {
    private var text = ""
    private var validUntil = NIODeadline.uptimeNanoseconds(0)

    mutating func value(_ now: NIODeadline) -> String {
        if now >= validUntil {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            text = Self.format(time.tv_sec)
            validUntil = now + .nanoseconds(1_000_000_000 - Int64(time.tv_nsec))
        }
        return text
    }

    static func format(_ seconds: Int) -> String {
        var seconds = time_t(seconds)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return
            "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) \(parts.tm_year + 1900) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
    }
}
