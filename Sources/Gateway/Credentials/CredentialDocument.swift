import Formats
import Settings
package import Store

/// A credential as it stands in the store: the key `agents/<id>`, format 1, sealed with the cluster's key.
///
/// The MAC covers the id and the version, so that a copy under another id, or an older version that was put back, is
/// not genuine there.
package struct CredentialDocument: Sendable {
    package static let prefix: StoreKey = "agents"
    static let format: Int64 = 1
    /// Bytes at most.
    package static let sizeLimit = 64 * 1024
    /// Patterns of each kind at most.
    static let patternLimit = 256
    package static let maxAgentsRange = 1...1_000_000

    private static let limits: JSONLimits = {
        var limits = JSONLimits()
        limits.size = sizeLimit
        limits.values = 4_096
        return limits
    }()

    /// Every field, also those that this version does not know.
    private(set) var fields: [String: JSONValue]
    package private(set) var credential: Credential

    /// The key of a credential.
    static func key(id: String) -> StoreKey {
        guard let key = try? prefix.child(id) else { preconditionFailure("an id is a name of the store") }
        return key
    }

    /// Where a version stands; the MAC covers it.
    private static func place(_ id: String, _ version: UInt64) -> String {
        prefix.path + "/" + id + "/" + String(version)
    }

    /// A new one.
    init(
        token: IssuedToken,
        name: String,
        services: [ServicePattern],
        hosts: [HostPattern],
        maxAgents: Int?,
        created: UnixTime
    ) {
        credential = Credential(
            id: token.id,
            name: name,
            services: services,
            hosts: hosts,
            maxAgents: maxAgents,
            created: created.description,
            revoked: nil,
            secrets: [Credential.Secret(hash: SecretHash(of: token.secret), notAfter: nil)]
        )
        fields = [
            "format": .integer(Self.format),
            "id": .string(token.id),
            "name": .string(name),
            "services": .array(services.map { .string($0.description) }),
            "hosts": .array(hosts.map { .string($0.description) }),
            "created": .string(created.description),
        ]
        if let maxAgents { fields["max_agents"] = .integer(Int64(maxAgents)) }
        fields["secrets"] = Self.json(credential.secrets, keeping: nil)
    }

    /// Reads what stands in the store.
    ///
    /// - Parameters:
    ///   - id: from the key; the one inside must be the same.
    ///   - keyring: its MAC must be of one of these keys.
    package init(_ stored: StoredValue, id: String, keyring: ClusterKeyring) throws(CredentialError) {
        let place = Self.place(id, stored.version)
        func malformed(_ reason: String) -> CredentialError {
            CredentialError(.malformed, "\(place): \(reason); revoke it and make a new token")
        }
        guard IssuedToken.isID(id) else { throw malformed("\(quoted(id)) is not the id of a token") }
        guard stored.bytes.count <= Self.sizeLimit else {
            throw CredentialError(StoreError(.tooLarge, place, "is larger than \(Self.sizeLimit) bytes"))
        }
        let body: [UInt8]
        do throws(StoreError) {
            body = try SealedDocument.open(stored.bytes, .credential, context: place, with: keyring, place: place)
        } catch {
            throw CredentialError(error)
        }
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONValue(json: body, limits: Self.limits)
        } catch {
            throw malformed("is not JSON, \(error)")
        }
        guard let fields = value.object else { throw malformed("is not a JSON object") }
        guard let format = fields["format"]?.integer else { throw malformed("has no \"format\" number") }
        guard format == Self.format else {
            let reason = "has format \(format), and this release reads \(Self.format); upgrade this gateway"
            throw CredentialError(StoreError(.newerFormat, place, reason))
        }
        guard fields["id"]?.string == id else { throw malformed("\"id\" differs from its key") }
        guard let name = fields["name"]?.string, Credential.isName(name) else {
            throw malformed("\"name\" is not 1 to 63 of a-z, 0-9 and \"-\"")
        }
        guard let secrets = Self.secrets(fields["secrets"]) else {
            let what = "1 to \(Credential.secretLimit) objects with \"sha256\" and perhaps \"not_after\""
            throw malformed("\"secrets\" is not a list of \(what)")
        }
        guard let maxAgents = Self.maxAgents(fields["max_agents"]) else {
            throw malformed("\"max_agents\" is not a number from 1 to \(Self.maxAgentsRange.upperBound)")
        }
        let services: [ServicePattern]
        let hosts: [HostPattern]
        do {
            services = try Self.patterns(fields["services"]) { text throws(FormatError) in try ServicePattern(text) }
            hosts = try Self.patterns(fields["hosts"]) { text throws(FormatError) in try HostPattern(text) }
        } catch {
            throw malformed("\(error.what) (\(error.remedy))")
        }
        self.fields = fields
        credential = Credential(
            id: id,
            name: name,
            services: services,
            hosts: hosts,
            maxAgents: maxAgents == 0 ? nil : maxAgents,
            created: fields["created"]?.string ?? "",
            revoked: Self.revocation(fields["revoked"]),
            secrets: secrets
        )
    }

    /// The bytes of the version after which it is written.
    package func sealed(version: UInt64, with key: ClusterKey) -> [UInt8] {
        let place = Self.place(credential.id, version)
        return SealedDocument.seal(fields.json, .credential, context: place, with: key)
    }
}

// MARK: Changes; every other field stays as it was

extension CredentialDocument {
    func revoked(at now: UnixTime) -> CredentialDocument {
        changed(revoked: now.description, secrets: credential.secrets)
    }

    /// With a new secret in front. Those before it are accepted until `end`, or until their own end if that is sooner;
    /// those that are not accepted any more are dropped, and so is the one that ends first when there are too many.
    func rotated(to secret: String, endingOthersAt end: UnixTime, now: UnixTime) -> CredentialDocument {
        var others: [Credential.Secret] = []
        for old in credential.secrets {
            let notAfter = min(old.notAfter ?? end, end)
            if now < notAfter { others.append(Credential.Secret(hash: old.hash, notAfter: notAfter)) }
        }
        // The ends fall with the age.
        let kept = others.prefix(Credential.secretLimit - 1)
        return changed(
            revoked: credential.revoked,
            secrets: [Credential.Secret(hash: SecretHash(of: secret), notAfter: nil)] + kept
        )
    }

    private func changed(revoked: String?, secrets: [Credential.Secret]) -> CredentialDocument {
        var copy = self
        copy.fields["secrets"] = Self.json(secrets, keeping: fields["secrets"])
        if let revoked { copy.fields["revoked"] = .string(revoked) }
        copy.credential = Credential(
            id: credential.id,
            name: credential.name,
            services: credential.services,
            hosts: credential.hosts,
            maxAgents: credential.maxAgents,
            created: credential.created,
            revoked: revoked,
            secrets: secrets
        )
        return copy
    }

    /// What is unknown of a secret stays with it.
    private static func json(_ secrets: [Credential.Secret], keeping old: JSONValue?) -> JSONValue {
        let before = old?.array?.compactMap(\.object) ?? []
        return .array(
            secrets.map { secret in
                let digest = JSONValue.string(secret.hash.hexadecimal)
                var fields = before.first { $0["sha256"] == digest } ?? [:]
                fields["sha256"] = digest
                fields["not_after"] = secret.notAfter.map { .string($0.description) }
                return .object(fields)
            }
        )
    }
}

// MARK: Fields

extension CredentialDocument {
    private static func secrets(_ value: JSONValue?) -> [Credential.Secret]? {
        guard let values = value?.array, (1...Credential.secretLimit).contains(values.count) else { return nil }
        var secrets: [Credential.Secret] = []
        for value in values {
            guard let fields = value.object,
                let hash = fields["sha256"]?.string.flatMap({ SecretHash(hexadecimal: $0) })
            else { return nil }
            switch fields["not_after"] {
            case nil, .null: secrets.append(Credential.Secret(hash: hash, notAfter: nil))
            case .string(let text):
                guard let end = UnixTime(rfc3339UTC: text) else { return nil }
                secrets.append(Credential.Secret(hash: hash, notAfter: end))
            default: return nil
            }
        }
        return secrets
    }

    /// 0: no limit. Nil: not a limit at all, which is not taken for none.
    private static func maxAgents(_ value: JSONValue?) -> Int? {
        switch value {
        case nil, .null: 0
        case .integer(let number): Int(exactly: number).flatMap { maxAgentsRange.contains($0) ? $0 : nil }
        default: nil
        }
    }

    /// Whatever stands there means revoked, but nothing, null and false.
    private static func revocation(_ value: JSONValue?) -> String? {
        switch value {
        case nil, .null, .bool(false): nil
        case .string(let text): text
        default: "yes"
        }
    }

    private static func patterns<Pattern>(
        _ value: JSONValue?,
        _ parse: (String) throws(FormatError) -> Pattern
    ) throws(FormatError) -> [Pattern] {
        guard let texts = value?.strings, texts.count <= patternLimit else {
            throw FormatError("\"services\" or \"hosts\" is no list of texts", "at most \(patternLimit)")
        }
        return try texts.map(parse)
    }
}
