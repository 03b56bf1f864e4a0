internal import Glibc

/// What a process calls itself when nobody says.
package enum ProcessName {
    /// The pod's name, told by the downward API, else the machine's.
    ///
    /// - Parameter fallback: where neither is a name.
    package static func standard(environment: [String: String], fallback: String) -> String {
        if let pod = environment["POD_NAME"], let name = try? Scalars.name(pod, longest: 253) { return name }
        var buffer = [CChar](repeating: 0, count: 256)
        // One byte less: a name that is cut need not be terminated.
        let status = gethostname(&buffer, buffer.count - 1)
        let host = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        guard status == 0, let name = try? Scalars.name(host, longest: 253) else { return fallback }
        return name
    }
}
