import Formats

/// The file that `cluster_key_file` names: one key per line, of which the first signs.
///
/// A line of 64 hexadecimal digits stands for 32 bytes (so a file from `keys/` can be given this way); any other line
/// of 32 to 1,024 characters is used as it is. Empty lines and lines that begin with "#" are ignored.
package enum ClusterKeyFile {
    package static let sizeLimit = 16_384
    static let lineLimit = 1_024
    static let keyLimit = 8

    /// Parses a key file.
    ///
    /// - Parameter path: The path for messages.
    package static func parse(_ bytes: [UInt8], path: String) throws(StoreError) -> [ClusterKey] {
        guard bytes.count <= sizeLimit else {
            throw StoreError(.tooLarge, path, "is larger than the \(sizeLimit) bytes that a key file may have")
        }
        var keys: [ClusterKey] = []
        for (index, raw) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
            let line = trimmed(raw)
            if line.isEmpty || line.first == UInt8(ascii: "#") { continue }
            guard line.allSatisfy({ (0x21...0x7e).contains($0) }) else {
                throw bad(path, index, "has characters that are not allowed in a key; use: openssl rand -hex 32")
            }
            guard (ClusterKey.size...lineLimit).contains(line.count) else {
                throw bad(
                    path,
                    index,
                    "has \(line.count) characters; a key has 32 to \(lineLimit): openssl rand -hex 32"
                )
            }
            let text = String(decoding: line, as: UTF8.self)
            let key = ClusterKey(secret: line.count == 64 ? Hex.bytes(text) ?? Array(line) : Array(line))
            if !keys.contains(key) { keys.append(key) }
        }
        guard !keys.isEmpty else {
            throw StoreError(.corrupt, path, "holds no key; create one with: openssl rand -hex 32")
        }
        guard keys.count <= keyLimit else {
            throw StoreError(.tooLarge, path, "holds more than \(keyLimit) keys; remove the oldest, at the end")
        }
        return keys
    }

    private static func bad(_ path: String, _ index: Int, _ reason: String) -> StoreError {
        StoreError(.corrupt, path, "line \(index + 1) \(reason)")
    }

    private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let blank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }
        let start = line.drop(while: blank)
        return start.prefix((start.lastIndex { !blank($0) }.map { $0 - start.startIndex + 1 }) ?? 0)
    }
}
