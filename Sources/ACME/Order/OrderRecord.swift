package import Formats

/// A pending order as it is stored, with everything that another replica needs to continue it. The key in it is secret.
/// The record is removed when the certificate is published, and when the order has failed permanently.
package struct OrderRecord: StoredRecord {
    /// The directory URL of the CA.
    package let directory: ACMEURL
    package let order: ACMEURL
    package let names: [CertificateName]
    package let profile: String?
    package let key: LeafKey
    /// The time at which the order was created, by the CA's clock. For display only.
    package let created: UnixTime
    /// The tasks that are, were, or were about to be presented. The replica that continues the order cleans them up.
    package internal(set) var tasks: [ChallengeTask] = []
    package var others: [String: JSONValue] = [:]
    /// The unknown fields of the tasks, by token.
    private var othersOfTasks: [String: [String: JSONValue]] = [:]

    init(_ plan: OrderPlan, order: ACMEURL, key: LeafKey, created: UnixTime) {
        directory = plan.authority.directory
        self.order = order
        names = plan.names
        profile = plan.profile
        self.key = key
        self.created = created
    }

    package init(_ reader: DocumentReader) throws(ACMEMessageError) {
        directory = try reader.ownURL("directory")
        order = try reader.url("order", from: directory)
        var names: [CertificateName] = []
        for text in try reader.strings("names") ?? [] {
            guard let name = CertificateName(text) else {
                throw reader.error("names", "contains a text that is not a name")
            }
            names.append(name)
        }
        self.names = names
        profile = try reader.optionalString("profile")
        guard let key = LeafKey(pem: try reader.string("key")) else { throw reader.error("key", "is not a P-256 key") }
        self.key = key
        created = try reader.time("created")
        for inner in try reader.objects("tasks", limit: ACMELimits.authorizations) {
            let task = try ChallengeTask(inner)
            tasks.append(task)
            othersOfTasks[task.token] = inner.fields.filter { task.fields[$0.key] == nil }
        }
    }

    package var fields: [String: JSONValue] {
        var fields: [String: JSONValue] = [
            "directory": .string(directory.text), "order": .string(order.text), "key": .string(key.pem),
            "names": .array(names.map { .string($0.description) }), "created": .string(created.rfc3339),
        ]
        fields["profile"] = profile.map { .string($0) }
        if !tasks.isEmpty { fields["tasks"] = .array(tasks.map { encoded($0) }) }
        return fields
    }

    private func encoded(_ task: ChallengeTask) -> JSONValue {
        .object(task.fields.merging(othersOfTasks[task.token] ?? [:]) { known, _ in known })
    }

    /// Whether the order has the CA, names and profile of the plan.
    package func serves(_ plan: OrderPlan) -> Bool {
        directory == plan.authority.directory && Set(names) == Set(plan.names) && profile == plan.profile
    }
}

extension OrderRecord: CustomStringConvertible {
    /// A summary without the key.
    package var description: String { "order \(order)" }
}
