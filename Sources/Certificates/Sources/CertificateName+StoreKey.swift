package import ACME
package import Store

/// Names as keys of the store, which may contain neither `*` nor `:`. The mapping is one to one:
///
/// | name | key |
/// |---|---|
/// | `app.example.com` | `certs/app.example.com` |
/// | `*.example.com` | `certs/_wildcard.example.com` |
/// | `192.0.2.1` | `certs/192.0.2.1` |
/// | `2001:db8::1` | `certs/_ipv6.2001-db8--1` |
/// | `_x.example.com`, `development-ca` | `certs/_dns._x.example.com`, `certs/_dns.development-ca` |
extension CertificateName {
    private static let wildcard = "_wildcard."
    private static let sixth = "_ipv6."
    /// The prefix of names that would otherwise collide with one of the other forms or with the development CA.
    private static let plain = "_dns."

    /// - Throws: If the key would be longer than a file name may be: a wildcard of more than 247 characters, or a name
    ///   of more than 250 that begins with `_`.
    package var storeKey: StoreKey {
        get throws(CertificatesError) {
            let component: String
            switch self {
            case .dns(let name) where name.hasPrefix("*."): component = Self.wildcard + name.dropFirst(2)
            case .dns(let name) where name.hasPrefix("_") || name == CertificateSet.developmentCA.name:
                component = Self.plain + name
            case .dns(let name): component = name
            case .address(let text) where text.utf8.contains(UInt8(ascii: ":")):
                component = Self.sixth + text.replacing(":", with: "-")
            case .address(let text): component = text
            }
            do {
                return try CertificateSet.prefix.child(component)
            } catch {
                throw CertificatesError(
                    .store(error.code),
                    description,
                    "is too long for the store, whose folders' names have at most \(StoreKey.componentLimit) characters; "
                        + "name the certificate after a shorter name that it has"
                )
            }
        }
    }

    /// Creates the name of a key, or returns `nil` if the key is of no name.
    package init?(storeKey key: StoreKey) {
        guard key.parent == CertificateSet.prefix else { return nil }
        let component = key.name
        let text =
            if component.hasPrefix(Self.wildcard) {
                "*." + component.dropFirst(Self.wildcard.count)
            } else if component.hasPrefix(Self.sixth) {
                String(component.dropFirst(Self.sixth.count).replacing("-", with: ":"))
            } else if component.hasPrefix(Self.plain) {
                String(component.dropFirst(Self.plain.count))
            } else {
                component
            }
        // Only the canonical form is accepted, so that no two keys have the same name.
        guard let name = CertificateName(text), (try? name.storeKey) == key else { return nil }
        self = name
    }
}
