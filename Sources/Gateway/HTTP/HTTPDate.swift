import Formats
import Glibc
import NIOCore

/// The current time as IMF-fixdate (RFC 9110 §5.6.7), formatted once a second.
struct HTTPDate {
    private var text = ""
    private var validUntil = NIODeadline.uptimeNanoseconds(0)

    mutating func value(_ now: NIODeadline) -> String {
        if now >= validUntil {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            text = UnixTime(seconds: Int64(time.tv_sec)).httpDate
            validUntil = now + .nanoseconds(1_000_000_000 - Int64(time.tv_nsec))
        }
        return text
    }
}
