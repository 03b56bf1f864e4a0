import Formats
import Settings
package import Store

/// A credential in the form in which the store holds it: the key `agents/<id>`, format 1, sealed with the cluster's
/// key.
///
/// The MAC covers the id and the version, so that a copy under another id, and an older version under a newer number,
/// are not genuine.
package struct CredentialDocument: Sendable {
    package static let prefix = StoreLayout.credentials
    static let format: Int64 = 1
    /// The maximum size in bytes: more than the longest names and patterns take.
    package static let sizeLimit = 128 * 1024
    /// The maximum number of patterns of each kind.
    static let patternLimit = 256
    package static let maxAgentsRange = 1...1_000_000

    private static let limits: JSONLimits = {
        var limits = JSONLimits()
        limits.size = sizeLimit
        limits.values = 4_096
        return limits
    }()

    /// All fields, including those that this release does not know.
    private(set) var fields: [String: JSONValue]
    package private(set) var credential: Credential

    /// The key of a credential in the store.
    static func key(id: String) -> StoreKey {
        guard let key = try? prefix.child(id) else { preconditionFailure("an id is a valid name in the store") }
        return key
    }

    /// Creates the document of a new token.
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

    /// Verifies and decodes a document of the store.
    ///
    /// - Parameters:
    ///   - id: The id in the key. The id in the document must be equal.
    ///   - keyring: The keys, one of which must have sealed the document.
    package init(_ stored: StoredValue, id: String, keyring: ClusterKeyring) throws(CredentialError) {
        var place: String { "\(Self.prefix)/\(id)/\(stored.version)" }
        func malformed(_ reason: String) -> CredentialError {
            let remedy = (try? Self.prefix.child(id)).map { "; \(StoreLayout.remedy(for: $0))" } ?? ""
            return CredentialError(.malformed, "\(place): \(reason)\(remedy)")
        }
        guard IssuedToken.isID(id) else { throw malformed("\(quoted(id)) is not the id of a token") }
        guard stored.bytes.count <= Self.sizeLimit else {
            throw CredentialError(StoreError(.tooLarge, place, "is larger than \(Self.sizeLimit) bytes"))
        }
        let body: [UInt8]
        do throws(StoreError) {
            body = try SealedDocument.open(stored, at: Self.key(id: id), with: keyring)
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
            throw CredentialError(StoreError.laterFormat(place, format, reads: Self.format))
        }
        guard fields["id"]?.string == id else { throw malformed("\"id\" differs from its key") }
        guard let name = fields["name"]?.string, Credential.isName(name) else {
            throw malformed("\"name\" is not 1 to 63 of a-z, 0-9 and \"-\"")
        }
        guard let secrets = Self.secrets(fields["secrets"]) else {
            let what = "1 to \(Credential.secretLimit) objects with \"sha256\" and optionally \"not_after\""
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

    /// Encodes and seals the document.
    ///
    /// - Parameter version: The version as which it will be written.
    package func sealed(version: UInt64, with key: ClusterKey) -> [UInt8] {
        SealedDocument.seal(fields.json, at: Self.key(id: credential.id), version: version, with: key)
    }
}

// MARK: Changes, which leave all other fields as they are

extension CredentialDocument {
    func revoked(at now: UnixTime) -> CredentialDocument {
        changed(revoked: now.description, secrets: credential.secrets)
    }

    /// Returns a copy with a new secret in front. The existing secrets are accepted until `end`, or until their own end
    /// if that is earlier. Expired secrets are dropped, and the oldest one if there are too many.
    func rotated(to secret: String, endingOthersAt end: UnixTime, now: UnixTime) -> CredentialDocument {
        var others: [Credential.Secret] = []
        for old in credential.secrets {
            let notAfter = min(old.notAfter ?? end, end)
            if now < notAfter { others.append(Credential.Secret(hash: old.hash, notAfter: notAfter)) }
        }
        // Older secrets never expire later than newer ones, so the last ones are dropped.
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

    /// Encodes the secrets, with the unknown fields that they have in the old array.
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

    /// Decodes the limit of agents.
    ///
    /// - Returns: 0 for no limit, or `nil` if the value is invalid, which must not be treated as no limit.
    private static func maxAgents(_ value: JSONValue?) -> Int? {
        switch value {
        case nil, .null: 0
        case .integer(let number): Int(exactly: number).flatMap { maxAgentsRange.contains($0) ? $0 : nil }
        default: nil
        }
    }

    /// Decodes the time of revocation. Any value means revoked, except an absent one, null and false.
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
            throw FormatError("\"services\" or \"hosts\" is not a list of strings", "at most \(patternLimit)")
        }
        return try texts.map(parse)
    }
}

extension CredentialDocument {
    /// Creates a document from the result of a read.
    init(_ stored: Result<StoredValue, StoreError>, id: String, keyring: ClusterKeyring) throws(CredentialError) {
        switch stored {
        case .success(let stored): try self.init(stored, id: id, keyring: keyring)
        case .failure(let error): throw CredentialError(error)
        }
    }
}
