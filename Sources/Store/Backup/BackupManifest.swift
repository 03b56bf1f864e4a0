import Formats

/// The last file of a backup: the number of the files before it and the digest of all their bytes, sealed with the
/// cluster's key. Its size does not depend on the number of files.
struct BackupManifest: Equatable {
    static let format: Int64 = 2
    static let context = "hopgate-backup.json/2"

    var cluster: String
    /// The version of the binary that created it, for people.
    var release: String
    /// The time of creation as text, for people.
    var created: String
    /// The number of files before this one.
    var files: Int
    /// The SHA-256 of the archive before this file, 64 hexadecimal digits.
    var sha256: String

    func sealed(with key: ClusterKey) -> [UInt8] {
        let fields: [String: JSONValue] = [
            "format": .integer(Self.format),
            "cluster": .string(cluster),
            "release": .string(release),
            "created": .string(created),
            "files": .integer(Int64(files)),
            "sha256": .string(sha256),
        ]
        return SealedDocument.seal(fields.json, .backup, context: Self.context, with: key)
    }
}

extension BackupManifest {
    /// - Throws: `newerFormat` before anything else is checked, so that the message names the right remedy.
    init(_ bytes: [UInt8], with keyring: ClusterKeyring, place: String) throws(StoreError) {
        let damaged = StoreError(.corrupt, place, "has an unreadable \(BackupItem.manifest); it is damaged")
        guard let format = [String: JSONValue](json: bytes)?["format"]?.integer else { throw damaged }
        guard format <= Self.format else {
            throw StoreError.laterFormat(place, format, reads: Self.format)
        }
        let body = try SealedDocument.open(bytes, .backup, context: Self.context, with: keyring, place: place)
        guard let fields = [String: JSONValue](json: body), let cluster = fields["cluster"]?.string,
            let release = fields["release"]?.string, let created = fields["created"]?.string,
            let files = fields["files"]?.integer.flatMap({ Int(exactly: $0) }), let sha256 = fields["sha256"]?.string
        else { throw damaged }
        self.init(cluster: cluster, release: release, created: created, files: files, sha256: sha256)
    }
}
