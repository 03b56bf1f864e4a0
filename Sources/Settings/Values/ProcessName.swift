import Glibc

/// The default name of a process.
package enum ProcessName {
    /// The pod's name from the downward API (`POD_NAME`), else the machine's host name.
    ///
    /// - Parameter fallback: The result if neither is a valid name.
    package static func standard(environment: [String: String], fallback: String) -> String {
        if let pod = environment["POD_NAME"], let name = try? Scalars.name(pod, longest: 253) { return name }
        var buffer = [CChar](repeating: 0, count: 256)
        // One byte is kept for the terminator, since a truncated name need not be terminated.
        let status = gethostname(&buffer, buffer.count - 1)
        let host = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        guard status == 0, let name = try? Scalars.name(host, longest: 253) else { return fallback }
        return name
    }
}
