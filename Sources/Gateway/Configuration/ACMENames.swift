import ACME
import Certificates
import Formats
import Settings

/// Reads the key `acme.names`: each item is a certificate, given by one name or by a list of names.
struct ACMENames {
    private struct Item {
        let key: String
        let origin: SettingOrigin
        /// The names, each with its own key and origin.
        let names: [(key: String, name: Setting<CertificateName>)]
    }

    /// The position of the key, or `nil` if it is not given.
    let origin: SettingOrigin?
    private let section: SettingsScope
    private let items: [Item]

    /// Reads the key and reports the problems that do not depend on other keys.
    init(_ section: SettingsScope) {
        self.section = section
        let given = section.items("names")
        origin = given?.origin
        items = (given?.items ?? []).compactMap { Self.item($0, section) }
        reportDuplicates()
        for item in items { reportRedundant(item) }
    }

    var isEmpty: Bool { items.isEmpty }

    /// The names of each certificate.
    ///
    /// - Parameter reader: The reader that records the effective values.
    func read(_ reader: SettingsReader) -> [[CertificateName]] {
        items.map { item in
            let names = item.names.map(\.name.value)
            reader.record(section.fullKey(item.key), names.map(\.description).joined(separator: ", "), item.origin)
            return names
        }
    }

    /// Reports names that no CA can validate with these challenges.
    func reportUnprovable(_ challenges: [ChallengeKind]) {
        for (key, name) in items.flatMap(\.names) {
            let isWildcard = name.value.description.hasPrefix("*.")
            if isWildcard, !challenges.contains(.dns01) {
                let remedy = "Set acme.dns.hook (a URL) or acme.dns.exec (a program), or name each host."
                let what = "\(name.value) is a wildcard, which CAs validate through the DNS, and no DNS hook is set"
                section.report(key, name.origin, FormatError(what, remedy))
            }
            if case .address = name.value, challenges.allSatisfy({ $0 == .dns01 }) {
                let remedy = "Add http-01 or tls-alpn-01 to acme.challenge."
                let what =
                    "\(name.value) is an address, which dns-01 cannot validate, and no other challenge is allowed"
                section.report(key, name.origin, FormatError(what, remedy))
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
                section.report(item.key, item.origin, FormatError("is empty", "Give it a name, or remove it."))
            }
            if texts.count > ACMELimits.names {
                let what = "has \(texts.count) names; CAs put at most \(ACMELimits.names) into a certificate"
                section.report(item.key, item.origin, FormatError(what, "Split it into several certificates."))
            }
            for (index, text) in texts.prefix(ACMELimits.names).enumerated() { add(text, "\(item.key)[\(index)]") }
        case .map:
            let remedy = "Write a name, or a list of names that share a certificate."
            section.report(item.key, item.origin, FormatError("is a map, not a name", remedy))
        }
        return names.isEmpty ? nil : Item(key: item.key, origin: item.origin, names: names)
    }

    /// Parses a name.
    ///
    /// - Parameter isFirst: Whether the name identifies the certificate and so has to be usable as a key of the store.
    private static func name(_ text: String, isFirst: Bool) throws(FormatError) -> CertificateName {
        guard let name = CertificateName(try HostPattern.canonicalText(text)) else {
            throw FormatError("\(quoted(text)) is not a host name", "Write a host such as app.example.com.")
        }
        if isFirst, (try? name.storeKey) == nil {
            throw FormatError(
                "\(quoted(text)) is too long for a folder's name in the store",
                "Put a shorter name before it, in a list that shares the certificate."
            )
        }
        return name
    }

    // MARK: Checks across items

    private func reportDuplicates() {
        var seen: [CertificateName: SettingOrigin] = [:]
        for (key, name) in items.flatMap(\.names) {
            if let first = seen[name.value] {
                let what = "\(name.value) is already named at \(first)"
                section.report(key, name.origin, FormatError(what, "Keep one of the two."))
            } else {
                seen[name.value] = name.origin
            }
        }
    }

    /// Reports names that a wildcard of the same certificate covers: public CAs refuse such an order.
    private func reportRedundant(_ item: Item) {
        let all = Set(item.names.map(\.name.value))
        for (key, name) in item.names {
            guard case .dns(let text) = name.value, !text.hasPrefix("*."), let dot = text.firstIndex(of: "."),
                let wildcard = CertificateName("*\(text[dot...])"), all.contains(wildcard)
            else { continue }
            let what = "\(text) is covered by \(wildcard) of the same certificate, which CAs refuse"
            section.report(key, name.origin, FormatError(what, "Remove it."))
        }
    }
}
