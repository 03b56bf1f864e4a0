import Certificates
import FoundationEssentials
import Settings
import Store

/// The form of `<data>/agents/<id>.json`, format 1.
struct CredentialFile {
    static let format: Int64 = 1
    /// Bytes of a file at most.
    static let sizeLimit = 64 * 1024
    /// Patterns of each kind at most.
    static let patternLimit = 256

    /// Every field, also those that this version does not know.
    private(set) var fields: [String: JSONValue]
    private(set) var credential: Credential

    static func name(id: String) -> String { "\(id).json" }

    /// The id in a file's name; nil for files that are no credentials.
    static func id(name: String) -> String? {
        name.hasSuffix(".json") ? String(name.dropLast(5)) : nil
    }

    init(
        token: IssuedToken,
        name: String,
        services: [ServicePattern],
        hosts: [HostPattern],
        created: Date
    ) {
        let hash = SecretHash(of: token.secret)
        let time = created.formatted(.iso8601)
        credential = Credential(
            id: token.id,
            name: name,
            services: services,
            hosts: hosts,
            secretHash: hash,
            created: time,
            revoked: nil
        )
        fields = [
            "format": .integer(Self.format),
            "id": .string(token.id),
            "name": .string(name),
            "services": .array(services.map { .string($0.description) }),
            "hosts": .array(hosts.map { .string($0.description) }),
            "secret_sha256": .string(hash.bytes.hexadecimal),
            "created": .string(time),
            "revoked": .null,
        ]
    }

    /// - Parameters:
    ///   - id: from the file's name; the one inside must be the same.
    ///   - path: for messages.
    init(_ bytes: [UInt8], id: String, path: String) throws(CredentialError) {
        func malformed(_ reason: String) -> CredentialError {
            CredentialError(.malformed, "\(path): \(reason); mend the file or remove it and make a new token")
        }
        guard IssuedToken.isID(id) else { throw malformed("the name of the file is not the id of a token") }
        guard let fields = try? JSONDecoder().decode([String: JSONValue].self, from: Data(bytes)) else {
            throw malformed("is not a JSON object")
        }
        guard case .integer(let format) = fields["format"] else { throw malformed("has no \"format\" number") }
        guard format == Self.format else {
            throw malformed("is of format \(format), and this version reads format \(Self.format)")
        }
        guard fields["id"]?.string == id else { throw malformed("\"id\" differs from the name of the file") }
        guard let name = fields["name"]?.string, Credential.isName(name) else {
            throw malformed("\"name\" is not 1 to 63 of a-z, 0-9 and \"-\"")
        }
        guard let hash = fields["secret_sha256"]?.string.flatMap({ SecretHash(hexadecimal: $0) }) else {
            throw malformed("\"secret_sha256\" is not 64 hexadecimal digits")
        }
        let services: [ServicePattern]
        let hosts: [HostPattern]
        do {
            services = try Self.patterns(fields["services"] ?? .array([.string("*")])) { try ServicePattern($0) }
            hosts = try Self.patterns(fields["hosts"] ?? .array([])) { try HostPattern($0) }
        } catch let complaint as Complaint {
            throw malformed("\(complaint.what) (\(complaint.remedy))")
        } catch {
            throw malformed("\"services\" and \"hosts\" must be lists of at most \(Self.patternLimit) texts")
        }
        self.fields = fields
        self.credential = Credential(
            id: id,
            name: name,
            services: services,
            hosts: hosts,
            secretHash: hash,
            created: fields["created"]?.string ?? "",
            revoked: Self.revocation(fields["revoked"])
        )
    }

    /// Revoked, with every other field as it was.
    func revoked(at time: Date) -> CredentialFile {
        var copy = self
        let text = time.formatted(.iso8601)
        copy.fields["revoked"] = .string(text)
        copy.credential = Credential(
            id: credential.id,
            name: credential.name,
            services: credential.services,
            hosts: credential.hosts,
            secretHash: credential.secretHash,
            created: credential.created,
            revoked: text
        )
        return copy
    }

    func encoded() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(fields) else { preconditionFailure("JSON values can be written") }
        return Array(data) + [UInt8(ascii: "\n")]
    }

    /// Whatever a person may have written there by hand to revoke it counts, but nothing, null and false.
    private static func revocation(_ value: JSONValue?) -> String? {
        switch value {
        case nil, .null, .bool(false): nil
        case .string(let text): text
        default: "yes"
        }
    }

    private struct NotAList: Error {}

    private static func patterns<Pattern>(_ value: JSONValue, _ parse: (String) throws -> Pattern) throws -> [Pattern] {
        guard let texts = value.strings, texts.count <= patternLimit else { throw NotAList() }
        return try texts.map(parse)
    }
}
