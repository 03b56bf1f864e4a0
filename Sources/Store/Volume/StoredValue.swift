import Formats

/// A value and its version. Versions count up from 1 for each key.
package struct StoredValue: Equatable, Sendable {
    package let bytes: [UInt8]
    package let version: UInt64

    package init(bytes: [UInt8], version: UInt64) {
        self.bytes = bytes
        self.version = version
    }
}

/// The file names of a key's versions: `agents/x/7.json`, but `cluster.json/7` where the key itself ends in ".json".
enum VersionName {
    static func name(of version: UInt64, key: StoreKey) -> String {
        "\(version)\(suffix(key))"
    }

    /// Returns the version that a file name stands for, or `nil` unless it is written exactly as ``name(of:key:)``
    /// writes it.
    static func version(_ name: String, key: StoreKey) -> UInt64? {
        // Byte by byte, because a start parses thousands of names.
        let suffix = suffix(key)
        guard name.hasSuffix(suffix), name.utf8.first != UInt8(ascii: "0") else { return nil }
        var number: UInt64 = 0
        for byte in name.utf8.dropLast(suffix.utf8.count) {
            guard let digit = Hex.digit(byte), digit < 10 else { return nil }
            let (tens, first) = number.multipliedReportingOverflow(by: 10)
            let (sum, second) = tens.addingReportingOverflow(UInt64(digit))
            guard !first, !second else { return nil }
            number = sum
        }
        return number > 0 && number < .max ? number : nil
    }

    private static func suffix(_ key: StoreKey) -> String {
        key.path.hasSuffix(extensionName) ? "" : extensionName
    }

    private static let extensionName = ".json"
}

/// The content of a version that marks a key as removed.
enum Tombstone {
    private static let beginning = Array(#"{"hopgate":"removed""#.utf8)

    static func bytes(nonce: String) -> [UInt8] {
        beginning + Array(#","nonce":"\#(nonce)"}"#.utf8)
    }

    static func isTombstone(_ bytes: [UInt8]) -> Bool { bytes.starts(with: beginning) }
}

/// The result of reading one of several keys.
package typealias StoreReading = (key: StoreKey, value: Result<StoredValue, StoreError>)
