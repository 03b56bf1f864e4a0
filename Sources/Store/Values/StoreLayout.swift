/// The prefixes below which the product keeps its values, one level deep. Beside them there are `cluster.json`, keys,
/// locks and members.
package enum StoreLayout {
    package static let credentials: StoreKey = "agents"
    package static let certificates: StoreKey = "certs"
    /// The root of the development CA.
    package static let developmentCA: StoreKey = "certs/development-ca"
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

    /// The remedy for a value that is damaged or not genuine.
    package static func remedy(for key: StoreKey) -> String {
        let removal = "remove it with: hopgate store remove \(key)"
        return switch key.parent {
        case nil: "restore a backup into an empty folder"
        case _ where key == developmentCA:
            "get a new one, which every client has to be told to trust: hopgate ca --replace"
        case certificates: "replace it with hopgate cert import or hopgate cert renew, or \(removal)"
        case credentials: "\(removal), and create a new token"
        default: removal
        }
    }

    /// Whether the value of a key contains a private key.
    static func isSecret(_ key: StoreKey) -> Bool { key.parent.map(secrets.contains) ?? false }
}
