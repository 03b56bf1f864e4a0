import Glibc

extension UnixTime {
    /// Reads this machine's wall clock. Sans-IO code takes the time as an argument instead.
    package static func now() -> UnixTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UnixTime(seconds: Int64(time.tv_sec))
    }
}
