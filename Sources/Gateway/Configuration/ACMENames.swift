import Certificates
import Settings

/// What `acme.names` says: each item is a certificate, of one name or of a list of names.
struct ACMENames {
    private struct Item {
        let key: String
        let origin: SettingOrigin
        /// Each with its own key and place.
        let names: [(key: String, name: Setting<CertificateName>)]
    }

    /// Where the key is; nil: it is not given.
    let origin: SettingOrigin?
    private let section: SettingsScope
    private let items: [Item]

    /// Reads it and reports what is wrong with it alone.
    init(_ section: SettingsScope) {
        self.section = section
        let given = section.items("names")
        origin = given?.origin
        items = (given?.items ?? []).compactMap { Self.item($0, section) }
        reportDuplicates()
        for item in items { reportRedundant(item) }
    }

    var isEmpty: Bool { items.isEmpty }

    /// - Parameter reader: what they came to be is noted there.
    func read(_ reader: SettingsReader) -> [[CertificateName]] {
        items.map { item in
            let names = item.names.map(\.name.value)
            reader.record(section.fullKey(item.key), names.map(\.description).joined(separator: ", "), item.origin)
            return names
        }
    }

    /// Reports names that no CA can validate by these challenges.
    func reportUnprovable(_ challenges: [ChallengeKind]) {
        for (key, name) in items.flatMap(\.names) {
            let isWildcard = name.value.description.hasPrefix("*.")
            if isWildcard, !challenges.contains(.dns01) {
                let remedy = "Set acme.dns.hook (a URL) or acme.dns.exec (a program), or name each host."
                let what = "\(name.value) is a wildcard, for which CAs look into the DNS, and there is no DNS hook"
                section.report(key, name.origin, Complaint(what, remedy))
            }
            if case .address = name.value, challenges.allSatisfy({ $0 == .dns01 }) {
                let remedy = "Add http-01 or tls-alpn-01 to acme.challenge."
                let what = "\(name.value) is an address, which is in no DNS zone, and only dns-01 is allowed"
                section.report(key, name.origin, Complaint(what, remedy))
            }
        }
    }

    // MARK: Items

    private static func item(_ item: SettingsItem, _ section: SettingsScope) -> Item? {
        var names: [(key: String, name: Setting<CertificateName>)] = []
        func add(_ text: Setting<String>, _ key: String) {
            do {
                names.append((key, Setting(try name(text.value, isFirst: names.isEmpty), text.origin)))
            } catch {
                section.report(key, text.origin, error)
            }
        }
        switch item.form {
        case .value(let text): add(Setting(text, item.origin), item.key)
        case .list(let texts):
            if texts.isEmpty {
                section.report(item.key, item.origin, Complaint("has no name in it", "Give it one, or remove it."))
            }
            if texts.count > ACMELimits.names {
                let what = "has \(texts.count) names; CAs put at most \(ACMELimits.names) into a certificate"
                section.report(item.key, item.origin, Complaint(what, "Make several certificates of it."))
            }
            for (index, text) in texts.prefix(ACMELimits.names).enumerated() { add(text, "\(item.key)[\(index)]") }
        case .map:
            let remedy = "Write a name, or a list of names that share a certificate."
            section.report(item.key, item.origin, Complaint("is a map, not a name", remedy))
        }
        return names.isEmpty ? nil : Item(key: item.key, origin: item.origin, names: names)
    }

    /// - Parameter isFirst: the certificate is called by it.
    private static func name(_ text: String, isFirst: Bool) throws(Complaint) -> CertificateName {
        guard let name = CertificateName(try Host.parsePattern(text)) else {
            throw Complaint("\(quoted(text)) is not a host name", "Write a host such as app.example.com.")
        }
        if isFirst, (try? name.storeKey) == nil {
            throw Complaint(
                "\(quoted(text)) is too long for a folder's name in the store",
                "Put a shorter name before it, in a list that shares the certificate."
            )
        }
        return name
    }

    // MARK: What they are together

    private func reportDuplicates() {
        var seen: [CertificateName: SettingOrigin] = [:]
        for (key, name) in items.flatMap(\.names) {
            if let first = seen[name.value] {
                let what = "\(name.value) is already named at \(first)"
                section.report(key, name.origin, Complaint(what, "Keep one of the two."))
            } else {
                seen[name.value] = name.origin
            }
        }
    }

    /// Public CAs refuse an order with a name that a wildcard of the same order covers.
    private func reportRedundant(_ item: Item) {
        let all = Set(item.names.map(\.name.value))
        for (key, name) in item.names {
            guard case .dns(let text) = name.value, !text.hasPrefix("*."), let dot = text.firstIndex(of: "."),
                let wildcard = CertificateName("*\(text[dot...])"), all.contains(wildcard)
            else { continue }
            let what = "\(text) is covered by \(wildcard) of the same certificate, which CAs refuse"
            section.report(key, name.origin, Complaint(what, "Remove it."))
        }
    }
}
