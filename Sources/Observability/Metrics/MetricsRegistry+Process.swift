import Glibc
import NIOCore
import Synchronization
import Threads

extension MetricsRegistry {
    /// Registers the standard `process_*` metrics and `build_info`. Called once for a registry.
    ///
    /// - Parameter build: The labels that identify the binary, at least `version`.
    package func registerProcessMetrics(build: [MetricLabel]) {
        gauge("build_info", help: "The running build; always 1.", labels: build).set(1)

        let started = ProcessFacts.startTime
        process("start_time_seconds", .gauge, "Start time of the process since the epoch in seconds.") { started }
        process("cpu_seconds_total", .counter, "Total user and system CPU time spent in seconds.") {
            ProcessFacts.cpuSeconds
        }
        process("resident_memory_bytes", .gauge, "Resident memory size in bytes.") {
            ProcessFacts.memory?.resident
        }
        process("virtual_memory_bytes", .gauge, "Virtual memory size in bytes.") { ProcessFacts.memory?.virtual }
        process("open_fds", .gauge, "Number of open file descriptors.") { ProcessFacts.openDescriptors }
        collectedCounter(
            "thread_start_failures_total",
            help: "Threads that could not be started because of a limit of the system."
        ) { Double(ThreadLimit.failureCount) }
        process("max_fds", .gauge, "Maximum number of open file descriptors.") { ProcessFacts.maximumDescriptors }
    }

    private func process(
        _ name: String,
        _ kind: CollectedKind,
        _ help: String,
        read: @escaping @Sendable () -> Double?
    ) {
        collectUnprefixed("process_\(name)", kind, help: help, labelNames: []) { samples in
            if let value = read() { samples.add(value, []) }
        }
    }
}

/// Facts about this process from the kernel; `nil` if /proc is not available.
enum ProcessFacts {
    static var cpuSeconds: Double? {
        var usage = rusage()
        guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return nil }
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    static var memory: (virtual: Double, resident: Double)? {
        guard let fields = read("/proc/self/statm")?.split(separator: " "), fields.count >= 2,
            let virtual = Double(fields[0]), let resident = Double(fields[1])
        else { return nil }
        let page = Double(sysconf(Int32(_SC_PAGESIZE)))
        return (virtual * page, resident * page)
    }

    static var openDescriptors: Double? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var entries = 0
        while readdir(directory) != nil { entries += 1 }
        // Without ".", ".." and the descriptor of the listing itself.
        return Double(max(0, entries - 3))
    }

    static var maximumDescriptors: Double? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
        return limit.rlim_cur == rlim_t.max ? nil : Double(limit.rlim_cur)
    }

    /// The start time in seconds since 1970: field 22 of `/proc/self/stat`, counted after the command's closing
    /// parenthesis since the command may contain any character.
    static var startTime: Double? {
        guard let stat = read("/proc/self/stat"), let end = stat.lastIndex(of: ")"),
            let boot = read("/proc/stat")?.split(separator: "\n").first(where: { $0.hasPrefix("btime ") }),
            let bootTime = Double(boot.dropFirst("btime ".count))
        else { return nil }
        let fields = stat[end...].split(separator: " ")
        guard fields.count > 20, let ticks = Double(fields[20]) else { return nil }
        return bootTime + ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// Reads a file of /proc, at most 64 KiB of it.
    private static func read(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        var filled = 0
        while filled < bytes.count {
            let count = bytes.withUnsafeMutableBytes {
                Glibc.read(descriptor, $0.baseAddress?.advanced(by: filled), $0.count - filled)
            }
            guard count > 0 else { break }
            filled += count
        }
        return String(decoding: bytes[..<filled], as: UTF8.self)
    }
}
