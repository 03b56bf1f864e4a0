import Crypto
import Formats

/// The first file of a backup: its contents with the digest of each file, sealed with the cluster's key.
struct BackupManifest: Equatable {
    static let format: Int64 = 1
    static let context = "hopgate-backup.json/1"

    struct File: Equatable {
        var size: Int64
        /// 64 hexadecimal digits.
        var sha256: String

        init(_ content: some Sequence<UInt8> & Collection) {
            var hash = SHA256()
            if content.withContiguousStorageIfAvailable({ hash.update(bufferPointer: UnsafeRawBufferPointer($0)) })
                == nil
            {
                hash.update(data: Array(content))
            }
            size = Int64(content.count)
            sha256 = Hex.string(Array(hash.finalize()))
        }

        init?(_ value: JSONValue) {
            guard case .object(let fields) = value, let size = fields["size"]?.integer,
                let sha256 = fields["sha256"]?.string
            else { return nil }
            self.size = size
            self.sha256 = sha256
        }

        var json: JSONValue { .object(["size": .integer(size), "sha256": .string(sha256)]) }
    }

    var cluster: String
    /// The version of the binary that created it, for people.
    var release: String
    /// The time of creation as text, for people.
    var created: String
    /// The files, by their name in the archive.
    var files: [String: File]

    func sealed(with key: ClusterKey) -> [UInt8] {
        let fields: [String: JSONValue] = [
            "format": .integer(Self.format),
            "cluster": .string(cluster),
            "release": .string(release),
            "created": .string(created),
            "files": .object(files.mapValues(\.json)),
        ]
        return SealedDocument.seal(fields.json, .backup, context: Self.context, with: key)
    }

    init(cluster: String, release: String, created: String, files: [String: File]) {
        self.cluster = cluster
        self.release = release
        self.created = created
        self.files = files
    }

    /// - Throws: `newerFormat` before anything else is checked, so that the message names the right remedy.
    init(_ bytes: [UInt8], with keyring: ClusterKeyring, place: String) throws(StoreError) {
        let damaged = StoreError(.corrupt, place, "has an unreadable list of contents; it is damaged")
        guard let format = [String: JSONValue](json: bytes)?["format"]?.integer else { throw damaged }
        guard format <= Self.format else {
            throw StoreError(.newerFormat, place, "has format \(format); this release reads \(Self.format)")
        }
        let body = try SealedDocument.open(bytes, .backup, context: Self.context, with: keyring, place: place)
        guard let fields = [String: JSONValue](json: body), let cluster = fields["cluster"]?.string,
            let release = fields["release"]?.string, let created = fields["created"]?.string,
            case .object(let listed)? = fields["files"]
        else { throw damaged }
        let files = listed.compactMapValues { File($0) }
        guard files.count == listed.count else { throw damaged }
        self.init(cluster: cluster, release: release, created: created, files: files)
    }
}
