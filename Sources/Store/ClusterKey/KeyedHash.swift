import Crypto

/// HMAC-SHA-256 (RFC 2104) with a long-lived key: both hashes have already absorbed the key and are copied for each
/// message, because a start verifies thousands of documents.
struct KeyedHash: Sendable {
    private static let block = 64

    private let inner: SHA256
    private let outer: SHA256

    /// - Parameter key: At most 64 bytes.
    init(key: [UInt8]) {
        precondition(key.count <= Self.block, "a key is not longer than a block")
        let padded = key + [UInt8](repeating: 0, count: Self.block - key.count)
        func begun(_ pad: UInt8) -> SHA256 {
            var hash = SHA256()
            hash.update(data: padded.map { $0 ^ pad })
            return hash
        }
        inner = begun(0x36)
        outer = begun(0x5c)
    }

    /// Returns the code of the concatenation.
    func code(_ first: [UInt8], _ second: [UInt8]) -> [UInt8] {
        var (inner, outer) = (inner, outer)
        first.withUnsafeBytes { inner.update(bufferPointer: $0) }
        second.withUnsafeBytes { inner.update(bufferPointer: $0) }
        inner.finalize().withUnsafeBytes { outer.update(bufferPointer: $0) }
        return outer.finalize().withUnsafeBytes { Array($0) }
    }
}
