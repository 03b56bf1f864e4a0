import Formats
import FuzzDriver
import Glibc
import Settings

/// Checks the settings of a program from untrusted files, variables and flags: no input leads to a crash, to another
/// result the second time, to a message of several lines, or to a secret in one.
func checkReader(_ script: inout Script) {
    let sources = Sources(&script)
    let first = sources.read()
    precondition(first == sources.read(), "the result is another one the second time")
    for line in first {
        checkLine(line)
        checkMasked(line)
        precondition(sources.holdsSecret || !line.contains(Sources.secret), "a secret in a message")
    }
}

/// Checks that the rest of every token and join string is masked.
private func checkMasked(_ line: String) {
    let bytes = Array(line.utf8)
    for prefix in ["hgt_", "hgj_"].map({ Array($0.utf8) }) {
        for index in bytes.indices where bytes[index...].starts(with: prefix) {
            precondition(bytes[(index + prefix.count)...].starts(with: "…".utf8), "a token in a message")
        }
    }
}

private enum Color: String, CaseIterable, Sendable { case red, green, blue }

private struct Sources {
    static let secret = "QuietWord"
    /// One unnamed file for all runs; each run rewrites it.
    private static let descriptor: CInt = {
        guard let file = tmpfile() else { fatalError("no file") }
        return fileno(file)
    }()
    private static let path = "/proc/self/fd/\(descriptor)"
    private static let keys = [
        "listen", "count", "size", "grace", "on", "color", "text", "hosts", "services", "routes", "timeouts_header",
        "hosts_file", "routes_file", "service_host", "port_443_tcp", "extra",
    ]

    private var document: [UInt8] = []
    private var environment: [String: String] = ["T_TOKEN": "hgt_id." + secret]
    private var flags: [String: String] = [:]
    /// The input contains the word in another place, where it is not a secret.
    private(set) var holdsSecret = false
    /// Whether the file names another one, which would be opened; reading a terminal would never end.
    private var namesFile = false

    /// Some variables and flags, then the file.
    init(_ script: inout Script) {
        for _ in 0..<Int(script.byte() & 7) {
            let choice = script.byte()
            let key = Self.keys[Int(choice & 15)]
            let bytes = script.bytes(until: 0)
            let value = key.hasSuffix("_file") ? Self.path : String(decoding: bytes, as: UTF8.self)
            holdsSecret = holdsSecret || value.contains(Self.secret)
            switch choice >> 4 & 3 {
            case 0, 1: environment["T_" + key.uppercased()] = value
            // A variable that no list of ours has.
            case 2: environment["T_" + value] = "tcp://x"
            default: if !key.hasSuffix("_file") { flags[key] = value }
            }
        }
        document = script.rest()
        holdsSecret = holdsSecret || String(decoding: document, as: UTF8.self).contains(Self.secret)
        if case .mapping(let entries) = YAMLNode.parse(document).root?.value {
            namesFile = entries.contains { $0.key == "token_file" }
        }
    }

    /// All settings as text, or their problems.
    func read() -> [String] {
        precondition(ftruncate(Self.descriptor, 0) == 0, "no file")
        let written = document.withUnsafeBytes { pwrite(Self.descriptor, $0.baseAddress, $0.count, 0) }
        precondition(written == document.count, "no file")
        let reader = SettingsReader(prefix: "T", file: Self.path, environment: environment, flags: flags)
        let isRead = Reading(reader.root, asksForSecret: !namesFile)
        do throws(SettingsError) {
            try reader.finish()
            precondition(isRead.isWhole, "a setting that must be there is not")
            let breaks = reader.effective.table.utf8.count { $0 == 0x0A }
            precondition(breaks == reader.effective.count - 1, "a broken table")
            return reader.effective.flatMap { [$0.key, $0.shown, "\($0.origin)"] }
        } catch {
            precondition(!error.problems.isEmpty && error.problems.count <= 50, "problems without an end")
            return error.problems.flatMap { [$0.description, $0.key, $0.what, $0.remedy] }
        }
    }
}

/// Asks for a value of each kind, as the programs do.
private struct Reading {
    /// Whether all required settings were found.
    var isWhole: Bool

    init(_ root: SettingsScope, asksForSecret: Bool) {
        let listen = root.address("listen", default: ListenAddress(host: "::", port: 1))
        precondition((0...65_535).contains(listen.value.port))
        let count = root.int("count", default: 1, in: -5...1_000).value
        precondition((-5...1_000).contains(count))
        precondition((0...1 << 40).contains(root.size("size", default: 1, in: 0...1 << 40).value))
        let durations = Duration.zero ... .seconds(86_400)
        precondition(durations.contains(root.duration("grace", default: .zero, in: durations).value))
        _ = root.bool("on", default: false)
        _ = root.choice("color", default: Color.red)
        _ = root.string("text", default: "")
        let timeouts = root.section("timeouts")
        precondition(durations.contains(timeouts.duration("header", default: .zero, in: durations).value))
        _ = root.list("hosts", parse: HostPattern.canonicalText)
        let services = root.map("services", isRequired: true) { name, value throws(FormatError) in
            _ = try Scalars.name(name)
            return try HostPort.parse(value, defaultPort: 80)
        }
        precondition(Set(services.map(\.name)).count == services.count, "a name twice in one map")
        var routes = true
        for item in root.maps("routes") {
            routes = item.required("host", parse: HostPattern.canonicalText) != nil && routes
            _ = item.optional("to", show: quoted) { text throws(FormatError) in try Scalars.string(text) }
            _ = item.bool("strip_prefix", default: false)
        }
        isWhole = !services.isEmpty && routes
        guard asksForSecret else { return }
        let token = root.secret("token") { text throws(FormatError) in
            // A problem that repeats the value, which none should.
            if count < 0 { throw FormatError("\(text) is wrong", "Look at \(text).") }
            return text
        }
        isWhole = isWhole && token != nil
    }
}
