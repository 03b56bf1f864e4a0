package import Formats

/// An order that is on its way, as it is kept in the store: all that whoever takes over needs to go on with it. The key
/// in it is secret. It is removed when the certificate is published, and when the order has failed for good.
package struct OrderRecord: Equatable, Sendable {
    /// The CA's directory.
    package let directory: ACMEURL
    package let order: ACMEURL
    package let names: [CertificateName]
    package let profile: String?
    package let key: LeafKey
    /// By the CA's clock; to be shown.
    package let created: UnixTime
    /// What is presented for it, or was, or was about to be: whoever goes on with the order cleans it up.
    package internal(set) var tasks: [ChallengeTask] = []
    /// Fields that this release does not know.
    private var others: [String: JSONValue]

    init(_ plan: OrderPlan, order: ACMEURL, key: LeafKey, created: UnixTime) {
        directory = plan.authority.directory
        self.order = order
        names = plan.names
        profile = plan.profile
        self.key = key
        self.created = created
        others = [:]
    }

    /// - Parameter place: for messages.
    package init(json bytes: [UInt8], place: String) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, place)
        directory = try reader.ownURL("directory")
        order = try reader.url("order", from: directory)
        var names: [CertificateName] = []
        for text in try reader.strings("names") ?? [] {
            guard let name = CertificateName(text) else { throw reader.error("names", "holds what is no name") }
            names.append(name)
        }
        self.names = names
        profile = try reader.optionalString("profile")
        guard let key = LeafKey(pem: try reader.string("key")) else { throw reader.error("key", "is no P-256 key") }
        self.key = key
        guard let created = try reader.time("created") else { throw reader.error("created", "is missing") }
        self.created = created
        for inner in try reader.objects("tasks", limit: ACMELimits.authorizations) {
            tasks.append(try ChallengeTask(inner))
        }
        others = reader.fields.filter { !Self.fieldNames.contains($0.key) }
    }

    private static let fieldNames: Set = ["directory", "order", "names", "profile", "key", "created", "tasks"]

    package var json: [UInt8] {
        var fields = others
        fields["directory"] = .string(directory.text)
        fields["order"] = .string(order.text)
        fields["names"] = .array(names.map { .string($0.description) })
        if let profile { fields["profile"] = .string(profile) }
        fields["key"] = .string(key.pem)
        fields["created"] = .string(created.rfc3339)
        if !tasks.isEmpty { fields["tasks"] = .array(tasks.map { .object($0.fields) }) }
        return fields.json
    }

    /// Whether the order is what is wanted now.
    func serves(_ plan: OrderPlan) -> Bool {
        directory == plan.authority.directory && Set(names) == Set(plan.names) && profile == plan.profile
    }
}

extension OrderRecord: CustomStringConvertible {
    /// Without the key.
    package var description: String { "order \(order)" }
}
