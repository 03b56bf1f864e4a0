import Formats

/// A value and its version. Versions count up from 1 for each key.
package struct StoredValue: Equatable, Sendable {
    package let bytes: [UInt8]
    package let version: UInt64
    /// The epoch of the lease under which it was written; see ``VersionFile``.
    package let epoch: UInt64

    package init(bytes: [UInt8], version: UInt64, epoch: UInt64 = 0) {
        self.bytes = bytes
        self.version = version
        self.epoch = epoch
    }
}

/// The file names of a key's versions: `agents/x/7.json`, but `cluster.json/7` where the key itself ends in ".json".
package enum VersionName {
    static func name(of version: UInt64, key: StoreKey) -> String {
        "\(version)\(suffix(key))"
    }

    package static func path(of version: UInt64, key: StoreKey) -> String { "\(key)/\(name(of: version, key: key))" }

    /// Returns the version that a file name stands for, or `nil` unless it is written exactly as ``name(of:key:)``
    /// writes it.
    static func version(_ name: String, key: StoreKey) -> UInt64? {
        let suffix = suffix(key)
        guard name.hasSuffix(suffix) else { return nil }
        return StoreNumber.parse(name: name.dropLast(suffix.utf8.count))
    }

    private static func suffix(_ key: StoreKey) -> String {
        key.path.hasSuffix(extensionName) ? "" : extensionName
    }

    private static let extensionName = ".json"
}

/// The content of a version's file: a header line, then the bytes of the value.
///
/// ```
/// HGV2 value|removed EPOCH NONCE\n
/// ```
///
/// The epoch is that of the lease under which the version was written; a version that was written without a lease has
/// the epoch of its predecessor. No lease gets to an epoch above ``epochLimit``, unless one was put there by hand: such
/// an epoch of a value counts as 0, so that it does not keep the holders of the lease from writing. The nonce is 32
/// hexadecimal digits, by which a writer recognises its own file.
package struct VersionFile: Equatable {
    /// The largest number of bytes of a file: a value of the greatest size and the longest header.
    static let sizeLimit = Volume.valueLimit + 72
    static let epochLimit: UInt64 = 1 << 52
    private static let magic = Array("HGV".utf8)
    private static let value = Array("HGV2 value ".utf8)
    private static let removed = Array("HGV2 removed ".utf8)

    /// Whether the version marks the key as removed.
    let isRemoved: Bool
    let epoch: UInt64
    let nonce: String
    let bytes: [UInt8]

    init(isRemoved: Bool = false, epoch: UInt64 = 0, nonce: String, bytes: [UInt8] = []) {
        self.isRemoved = isRemoved
        self.epoch = epoch
        self.nonce = nonce
        self.bytes = bytes
    }

    /// Whether a file marks its key as removed.
    static func isRemoval(_ file: [UInt8]) -> Bool { file.starts(with: removed) }

    package func encoded() -> [UInt8] {
        (isRemoved ? Self.removed : Self.value) + Array("\(epoch) \(nonce)\n".utf8) + bytes
    }

    /// Decodes a file.
    ///
    /// - Parameter place: The location for messages; evaluated only for an error.
    /// - Throws: `newerFormat`, or `corrupt` if the header is not as ``encoded()`` writes it.
    package init(_ file: [UInt8], place: @autoclosure () -> String) throws(StoreError) {
        // Byte by byte, because a start decodes thousands of files.
        let isRemoved = Self.isRemoval(file)
        guard isRemoved || file.starts(with: Self.value) else { throw Self.unreadable(file, place()) }
        let rest = file.dropFirst(isRemoved ? Self.removed.count : Self.value.count)
        let digits = rest.prefix { $0 != UInt8(ascii: " ") }
        let end = digits.endIndex + 33
        guard let epoch = StoreNumber.parse(digits), end < file.count, file[end] == UInt8(ascii: "\n"),
            file[digits.endIndex + 1..<end].allSatisfy({ Hex.digit($0) != nil }), !isRemoved || end + 1 == file.count
        else { throw Self.unreadable(file, place()) }
        self.init(
            isRemoved: isRemoved,
            epoch: epoch > Self.epochLimit ? 0 : epoch,
            nonce: String(decoding: file[digits.endIndex + 1..<end], as: UTF8.self),
            bytes: Array(file[(end + 1)...])
        )
    }

    private static func unreadable(_ file: [UInt8], _ place: String) -> StoreError {
        if file.starts(with: magic), let digit = file.dropFirst(3).first,
            (UInt8(ascii: "3")...UInt8(ascii: "9")).contains(digit)
        {
            let reason = "was written by a newer release"
            return StoreError(.newerFormat, place, "\(reason); \(StoreError.laterFormatRemedy)")
        }
        let reason = file.isEmpty ? "is empty" : "is not a version of a value: it was edited or damaged"
        return StoreError(.corrupt, place, reason)
    }
}

/// A version of a key as it is on the volume, not decoded.
struct StoredVersion {
    let version: UInt64
    let file: [UInt8]
}

/// A change of one value.
package enum ValueWrite: Sendable {
    /// Gives a key that has no value this one.
    case create([UInt8])
    /// Replaces the newest version, which has this number.
    case replace(UInt64, [UInt8])
    /// Creates the value, or replaces the newest version unless it has these bytes. Of several writers the last one
    /// wins.
    case put([UInt8])
    /// Removes the value. The version that has to be the newest, or `nil` to remove any version.
    case remove(UInt64?)
    /// Removes the value if the file of its newest version is damaged. Otherwise it conflicts.
    case removeDamaged

    /// The new value, or `nil` for a removal.
    var bytes: [UInt8]? {
        switch self {
        case .create(let bytes), .replace(_, let bytes), .put(let bytes): bytes
        case .remove, .removeDamaged: nil
        }
    }

    /// Whether the change applies to any newest version, even one that cannot be read.
    var isUnconditional: Bool {
        switch self {
        case .put, .remove(nil): true
        case .create, .replace, .remove, .removeDamaged: false
        }
    }
}

/// The result of reading one of several keys.
package typealias StoreReading = (key: StoreKey, value: Result<StoredValue, StoreError>)

/// The result of looking at a key: `nil` if its folder has no version.
package typealias KeyFinding = Result<KeyState?, StoreError>

package enum KeyState: Sendable {
    /// The newest version is the known one.
    case known
    case value(StoredValue)
    case removed(version: UInt64)
}
