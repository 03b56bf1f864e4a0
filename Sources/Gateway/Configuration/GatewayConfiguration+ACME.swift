import ACME
import Certificates
import Formats
import NIOCore
import Settings

extension GatewayConfiguration {
    /// Reads the block `acme` and the top-level keys that are synonyms of parts of it. Returns `nil` if ACME is not
    /// used.
    static func readACME(_ root: SettingsScope, _ reader: SettingsReader) -> ACMEConfiguration? {
        let section = root.section("acme")
        section.synonym("acme_email", in: root, of: "email")
        section.synonym("acme_ca", in: root, of: "ca")
        // The effective values are listed only if ACME is used.
        section.isQuiet = true
        let names = ACMENames(section)
        let onDemand = section.section("on_demand")
        let hosts = onDemand.list("hosts", parse: onDemandHost)
        let isUsed = !names.isEmpty || !hosts.isEmpty
        section.isQuiet = !isUsed
        onDemand.isQuiet = !isUsed

        let hook = section.section("dns")
        // A hook that is invalid counts as given, so that only its own problem is reported.
        let hasHook = hook.isGiven("hook") || hook.isGiven("exec")
        let agreement = section.bool("agree_to_terms", default: false)
        var result = ACMEConfiguration(authorities: ACMEAuthorities(section, reader).read())
        let contacts = readContacts(section)
        for index in result.authorities.indices { result.authorities[index].authority.contacts = contacts }
        result.names = names.read(reader)
        result.dns = readDNSHook(hook)
        result.challenges = readChallenges(section, hasHook: hasHook)
        names.reportUnprovable(result.challenges)
        result.profile = section.optional("profile", parse: Scalars.string)?.value
        result.preferredIssuer = section.optional("preferred_issuer", parse: Scalars.string)?.value
        if !hosts.isEmpty { reader.record("acme.on_demand.hosts", shown(hosts.map(\.value)), hosts[0].origin) }
        result.onDemand.hosts = hosts.map(\.value)
        let limits = ACMEConfiguration.OnDemand.standardLimits
        result.onDemand.limits = IssuanceBudget.Limits(
            perMinute: onDemand.int("per_minute", default: limits.perMinute, in: 1...1000).value,
            perWeek: onDemand.int("per_week", default: limits.perWeek, in: 1...IssuanceBudget.mostPerWeek).value
        )

        guard isUsed else {
            reader.record("acme", "not in use", .fallback)
            return nil
        }
        if !agreement.value {
            let origin = agreement.origin == .fallback ? names.origin ?? hosts[0].origin : agreement.origin
            let remedy = "Read the terms of service of each CA in acme.ca, then write \"agree_to_terms: true\"."
            section.report("agree_to_terms", origin, FormatError("must be true to use ACME", remedy))
        }
        return result
    }

    private static func shown(_ values: [some CustomStringConvertible]) -> String {
        values.map(\.description).joined(separator: ", ")
    }

    // MARK: Parts

    private static func onDemandHost(_ text: String) throws(FormatError) -> HostPattern {
        let host = try HostPattern(text)
        if case .exact(let name) = host, IPAddressText.isIPv4(name) || IPAddressText.isIPv6(name) {
            throw FormatError(
                "\(quoted(text)) is an address, which no client asks for by name",
                "Put it into acme.names."
            )
        }
        return host
    }

    private static func readContacts(_ section: SettingsScope) -> [String] {
        let given = section.items("email")
        var contacts: [String] = []
        for item in given?.items ?? [] {
            do throws(FormatError) {
                guard case .value(let text) = item.form else {
                    throw FormatError("is \(item.form.kind), not an address", "Write addresses, as in [a@example.com].")
                }
                contacts.append(try contact(text))
            } catch {
                section.report(item.key, item.origin, error)
            }
        }
        section.record("email", contacts.isEmpty ? "none" : shown(contacts), given?.origin ?? .fallback)
        return contacts
    }

    /// Parses a single address, without the other parts that a `mailto` URL may have (RFC 8555 §7.3).
    private static func contact(_ text: String) throws(FormatError) -> String {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        let isPlain = text.utf8.allSatisfy { (0x21...0x7e).contains($0) && !",;:<>()[]\\\"?%&".utf8.contains($0) }
        guard parts.count == 2, !parts[0].isEmpty, DNSName.isHostName(parts[1]), isPlain, text.utf8.count <= 254 else {
            throw FormatError("\(quoted(text)) is not an e-mail address", "Write it plainly, as in admin@example.com.")
        }
        return text
    }

    private static func readChallenges(_ section: SettingsScope, hasHook: Bool) -> [ChallengeKind] {
        let given = section.items("challenge")
        var kinds: [ChallengeKind] = []
        for item in given?.items ?? [] {
            do throws(FormatError) {
                guard case .value(let text) = item.form else {
                    throw FormatError("is \(item.form.kind), not a challenge", "Write [http-01, tls-alpn-01].")
                }
                let kind = try Scalars.choice(text, of: ChallengeKind.self)
                if kinds.contains(kind) { throw FormatError("\(kind) is listed twice", "Keep one of the two.") }
                if kind == .dns01, !hasHook {
                    let remedy = "Set acme.dns.hook (a URL) or acme.dns.exec (a program), which change the DNS."
                    throw FormatError("dns-01 needs a hook", remedy)
                }
                kinds.append(kind)
            } catch {
                section.report(item.key, item.origin, error)
            }
        }
        if let given, given.items.isEmpty {
            let problem = FormatError("is empty", "Give at least one, or remove the key.")
            section.report("challenge", given.origin, problem)
        }
        if kinds.isEmpty { kinds = ACMEConfiguration.standardChallenges }
        if hasHook, !kinds.contains(.dns01) { kinds.append(.dns01) }
        section.record("challenge", shown(kinds), given?.origin ?? .fallback)
        return kinds
    }

    private static func readDNSHook(_ section: SettingsScope) -> DNSHookSettings? {
        let url = section.optional("hook", parse: hookURL)
        let program = section.executableFile("exec")
        let isURL = section.isGiven("hook")
        let isProgram = section.isGiven("exec")
        let secret = section.secretIfGiven("hook_token") { text throws(FormatError) -> HookCredential in
            if let credential = HookCredential(text) { return credential }
            throw FormatError("is not a token", "Give plain characters without blanks, or NAME:PASSWORD.")
        }
        let bundle = section.caBundle()
        let propagation = section.duration(
            "propagation",
            default: .seconds(10),
            in: .zero ... .seconds(300)
        )
        if let url, let program {
            section.report(
                "exec",
                program.origin,
                FormatError("is set, and so is hook (\(url.origin))", "Keep one of the two.")
            )
        }
        // Keys that require an HTTP hook, or any hook.
        let extras: [(key: String, origin: SettingOrigin?, needsURL: Bool)] = [
            ("hook_token", secret?.origin, true), ("ca_bundle", bundle?.origin, true),
            ("propagation", propagation.origin, false),
        ]
        for (key, origin, needsURL) in extras {
            guard let origin, origin != .fallback, !isURL, needsURL || !isProgram else { continue }
            let which = needsURL ? "hook" : "hook or exec"
            section.report(key, origin, FormatError("has no effect without \(which)", "Set \(which), or remove it."))
        }
        let hook: DNSHookSettings.Hook
        if let url {
            hook = .http(url.value, credential: secret?.value, bundle: bundle?.value)
        } else if let program {
            hook = .program(program.value)
        } else {
            return nil
        }
        return DNSHookSettings(hook, propagation: TimeAmount(propagation.value))
    }

    private static func hookURL(_ text: String) throws(FormatError) -> ACMEURL {
        let url = try ACMEAuthorities.url(text)
        guard !text.contains("?") else {
            let remedy = "Write the URL below which \"present\" and \"cleanup\" are."
            throw FormatError("\(quoted(text)) has a query", remedy)
        }
        return url
    }
}
