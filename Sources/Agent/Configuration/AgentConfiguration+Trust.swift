import Formats
import Settings

extension AgentConfiguration {
    /// Reads one of `ca_file`, `pin` and `system`. Two from one source contradict each other; from different sources
    /// the stronger source wins, as with every setting. Each of them wins over the trust in a join string.
    static func readTrust(
        _ section: SettingsScope,
        _ reader: SettingsReader,
        join: Setting<AgentJoin>?
    ) -> Setting<AgentTrust> {
        // The effective trust is reported in one line below.
        section.isQuiet = true
        var given: [(key: String, trust: Setting<AgentTrust>)] = []
        if let file = section.readableFile("ca_file", flag: "ca-file", isRequired: false) {
            given.append(("ca_file", Setting(.caFile(path: file.value), file.origin)))
        }
        if let pin = section.optional("pin", flag: "pin", parse: parsePin) {
            given.append(("pin", Setting(.pin(sha256: pin.value), pin.origin)))
        }
        let system = section.value("system", default: true, parse: parseSystem)
        if system.origin != .fallback { given.append(("system", Setting(.system, system.origin))) }

        let rank = given.map(\.trust.origin.rank).max() ?? 0
        let strongest = given.filter { $0.trust.origin.rank == rank }
        if strongest.count > 1 {
            section.report(
                strongest[1].key,
                strongest[1].trust.origin,
                FormatError(
                    "\(strongest[0].key) is given as well (\(strongest[0].trust.origin))",
                    "Keep one of ca_file, pin and system."
                )
            )
        }
        let joined = join.flatMap { join in join.value.trust.map { Setting($0, join.origin) } }
        let trust = strongest.first?.trust ?? joined ?? Setting(.system, .fallback)
        reader.record(section.path, summary(of: trust.value), trust.origin)
        return trust
    }

    private static func parseSystem(_ text: String) throws(FormatError) -> Bool {
        guard try Scalars.bool(text) else {
            throw FormatError("false is not a kind of trust", "Remove it, and give ca_file or pin instead.")
        }
        return true
    }

    /// Parses `sha256:` and 64 hexadecimal digits. Colons between them, as `openssl x509 -fingerprint` prints them, are
    /// ignored.
    private static func parsePin(_ text: String) throws(FormatError) -> [UInt8] {
        let remedy = "Write sha256: and 64 hexadecimal digits."
        guard text.lowercased().hasPrefix("sha256:") else {
            throw FormatError("\(quoted(text)) does not begin with \"sha256:\"", remedy)
        }
        let digits = text.utf8.dropFirst(7).filter { $0 != UInt8(ascii: ":") }
        guard digits.count == 64 else { throw FormatError("has \(digits.count) digits", remedy) }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: 64, by: 2) {
            guard let high = nibble(digits[index]), let low = nibble(digits[index + 1]) else {
                throw FormatError("\(quoted(text)) contains a character that is not a digit", remedy)
            }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func nibble(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x37
        case 0x61...0x66: byte - 0x57
        default: nil
        }
    }

    private static func summary(of trust: AgentTrust) -> String {
        switch trust {
        case .system: "the system's roots"
        case .caFile(let path): "CA file \(quoted(path))"
        case .pin(let digest): "sha256:\(Hex.string(digest))"
        }
    }
}
