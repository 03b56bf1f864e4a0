/// The prefixes below which the product keeps its values, one level deep. Beside them there are `cluster.json`, keys,
/// locks and members.
package enum StoreLayout {
    package static let credentials: StoreKey = "agents"
    package static let certificates: StoreKey = "certs"
    package static let challenges: StoreKey = "acme/challenges"
    /// The prefixes of the values that a backup contains.
    package static let kept: [StoreKey] = [
        credentials, certificates, "acme/accounts", "acme/authorities", "acme/names", "acme/on-demand", "acme/orders",
    ]
    /// The prefixes of values with private keys. When such a value is replaced the versions before the replaced one are
    /// deleted at once.
    private static let secrets: [StoreKey] = [certificates, "acme/accounts", "acme/orders"]
    /// The prefixes of values that are of use for an hour at most, with random names, which never return. A backup does
    /// not contain them.
    package static let temporary: [StoreKey] = [challenges]
    /// The prefixes of all values.
    package static let all = kept + temporary
    /// The folders of the values at the top of the store.
    static let folders = Set(all.map { String($0.path.prefix { $0 != "/" }) })

    /// Whether the value of a key contains a private key.
    static func isSecret(_ key: StoreKey) -> Bool { key.parent.map(secrets.contains) ?? false }
}
