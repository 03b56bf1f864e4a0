import ACME
import Certificates
import Formats
import NIOSSL
import Outbound
import Settings

/// Reads the keys `acme.ca`, `acme.eab` and `acme.ca_bundle`: the CAs in the order of preference.
struct ACMEAuthorities {
    /// The CAs that have a short name.
    static let known = [
        ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
        ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
    ]

    private let section: SettingsScope
    private let reader: SettingsReader

    init(_ section: SettingsScope, _ reader: SettingsReader) {
        self.section = section
        self.reader = reader
    }

    func read() -> [RenewalSettings.Authority] {
        let commonTrust = section.caTrust()
        let commonAccount = section.externalAccount()
        let given = section.items("ca")
        var result: [RenewalSettings.Authority] = []
        var seen: [ACMEURL: SettingOrigin] = [:]
        for item in given?.items ?? [] {
            guard var authority = read(item) else { continue }
            let directory = authority.authority.directory
            if let first = seen[directory] {
                let what = "\(directory) is already listed at \(first)"
                section.report(item.key, item.origin, FormatError(what, "Keep one of the two."))
                continue
            }
            seen[directory] = item.origin
            if authority.trust == .system { authority.trust = commonTrust }
            result.append(authority)
            if !section.isQuiet { reader.record(section.fullKey(item.key), Self.summary(authority), item.origin) }
        }
        if let given, given.items.isEmpty {
            section.report("ca", given.origin, FormatError("is empty", "Give at least one, or remove the key."))
        }
        if given?.items.isEmpty ?? true {
            let (name, text) = Self.known[0]
            guard let url = ACMEURL(text) else { preconditionFailure("the known URL of \(name) is valid") }
            result = [RenewalSettings.Authority(ACMEAuthority(directory: url), trust: commonTrust)]
            section.record("ca", name, .fallback)
        }
        if let commonAccount { assign(commonAccount, to: &result) }
        return result
    }

    /// Assigns the external account of `acme.eab` to the CA that it belongs to, which has to be the only one.
    private func assign(_ account: Setting<ExternalAccount>, to authorities: inout [RenewalSettings.Authority]) {
        guard authorities.count == 1 else {
            // The configured CAs are invalid, which has been reported.
            if authorities.isEmpty { return }
            let what = "belongs to one CA, but acme.ca lists \(authorities.count)"
            section.report("eab", account.origin, FormatError(what, "Move it below that CA."))
            return
        }
        guard authorities[0].authority.externalAccount == nil else {
            let problem = FormatError("is given here and below the CA", "Keep one of the two.")
            section.report("eab", account.origin, problem)
            return
        }
        authorities[0].authority.externalAccount = account.value
    }

    private func read(_ item: SettingsItem) -> RenewalSettings.Authority? {
        switch item.form {
        case .value(let text):
            do {
                return RenewalSettings.Authority(ACMEAuthority(directory: try Self.directory(text)))
            } catch {
                section.report(item.key, item.origin, error)
                return nil
            }
        case .map(let open):
            let scope = open()
            let directory = scope.required("directory", parse: Self.directory)
            let account = scope.externalAccount()
            let trust = scope.caTrust()
            guard let directory else { return nil }
            return RenewalSettings.Authority(
                ACMEAuthority(directory: directory.value, externalAccount: account?.value),
                trust: trust
            )
        case .list:
            let remedy = "Write a URL, letsencrypt, or a map with the key directory."
            section.report(item.key, item.origin, FormatError("is a list, not a CA", remedy))
            return nil
        }
    }

    private static func directory(_ text: String) throws(FormatError) -> ACMEURL {
        if let (_, url) = known.first(where: { $0.0 == text }) { return try Self.url(url) }
        guard text.contains("://") else {
            let names = known.map(\.0).joined(separator: ", ")
            throw FormatError("\(quoted(text)) is not a known CA", "Write the URL of its directory, or \(names).")
        }
        return try Self.url(text)
    }

    /// Parses a URL to which requests may be sent: `https`, or `http` to the loopback address.
    static func url(_ text: String) throws(FormatError) -> ACMEURL {
        guard let url = ACMEURL(text), url.isSecure || isLoopback(url.host) else {
            throw FormatError(
                "\(quoted(text)) is not an allowed URL",
                "Write https://HOST/PATH, without a user; http only to 127.0.0.1, [::1] and localhost."
            )
        }
        return url
    }

    /// Whether the HTTP client connects to this host without TLS.
    private static func isLoopback(_ host: String) -> Bool {
        host == "localhost" || host == "::1" || IPAddressText.isIPv4(host) && host.hasPrefix("127.")
    }

    private static func summary(_ authority: RenewalSettings.Authority) -> String {
        var text = authority.authority.id
        if let account = authority.authority.externalAccount { text += ", \(account)" }
        if case .file(let bundle) = authority.trust { text += ", ca_bundle \(quoted(bundle))" }
        return text
    }
}

extension SettingsScope {
    /// Reads `ca_bundle`: a file with at least one certificate.
    func caBundle() -> Setting<String>? {
        guard let path = readableFile("ca_bundle", isRequired: false) else { return nil }
        let certificates = try? NIOSSLCertificate.fromPEMFile(path.value)
        guard certificates?.isEmpty == false else {
            let what = "\(quoted(path.value)) holds no certificates"
            report("ca_bundle", path.origin, FormatError(what, "Name a PEM file with the roots of that server."))
            return nil
        }
        return path
    }

    /// Reads `ca_bundle` as the trust anchors of a server.
    fileprivate func caTrust() -> OutboundTrust { caBundle().map { .file(path: $0.value) } ?? .system }

    /// Reads `eab`: the account that a CA has given to its customer (RFC 8555 §7.3.4).
    func externalAccount() -> Setting<ExternalAccount>? {
        let section = section("eab")
        // The keys are listed only if the block is complete, since most configurations have none.
        let isQuiet = section.isQuiet
        section.isQuiet = true
        let id = section.optional("kid", parse: Scalars.string)
        let key = section.secretIfGiven("key") { text throws(FormatError) in
            guard ExternalAccount(keyID: "id", key: text) != nil else {
                let remedy = "Copy the HMAC key as the CA shows it, without quotes or spaces."
                throw FormatError("is not a base64url key", remedy)
            }
            return text
        }
        if id == nil, !section.isGiven("kid"), let key {
            let problem = FormatError("is missing, while key is given", "Give the key id that belongs to the key.")
            section.report("kid", key.origin, problem)
        }
        if let id, key == nil {
            let problem = FormatError(
                "is missing, while kid is given",
                "Give the HMAC key, or a key_file that holds it."
            )
            section.report("key", id.origin, problem)
        }
        guard let id, let text = key?.value else { return nil }
        section.isQuiet = isQuiet
        section.record("kid", masked(id.value), id.origin)
        section.record("key", "(set, not shown)", key?.origin ?? id.origin)
        return ExternalAccount(keyID: id.value, key: text).map { Setting($0, id.origin) }
    }
}
