/// A value and the version that it is: numbers count up from 1 for each key.
package struct StoredValue: Equatable, Sendable {
    package let bytes: [UInt8]
    package let version: UInt64

    package init(bytes: [UInt8], version: UInt64) {
        self.bytes = bytes
        self.version = version
    }
}

/// The names of a key's versions: `agents/x/7.json`, and `cluster.json/7` where the key itself ends in ".json".
enum VersionName {
    static func name(of version: UInt64, key: StoreKey) -> String {
        "\(version)\(suffix(key))"
    }

    /// Nil unless it is written exactly as ``name(of:key:)`` writes it.
    static func version(_ name: String, key: StoreKey) -> UInt64? {
        let suffix = suffix(key)
        guard name.hasSuffix(suffix) else { return nil }
        let digits = name.dropLast(suffix.count)
        guard let number = UInt64(digits), number > 0, number < .max, digits == "\(number)" else { return nil }
        return number
    }

    private static func suffix(_ key: StoreKey) -> String {
        key.name.hasSuffix(".json") ? "" : ".json"
    }
}

/// The version that says that a key was removed.
enum Tombstone {
    private static let beginning = Array(#"{"hopgate":"removed""#.utf8)

    static func bytes(nonce: String) -> [UInt8] {
        beginning + Array(#","nonce":"\#(nonce)"}"#.utf8)
    }

    static func isTombstone(_ bytes: [UInt8]) -> Bool { bytes.starts(with: beginning) }
}
