/// The name of something in the store: components of `[A-Za-z0-9._-]` joined by "/", none of which begins with a dot.
///
/// A value is checked once and never again: what is a key cannot leave the store's folder.
package struct StoreKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// A file name, with what the drivers put behind it, stays below the 255 bytes of every file system.
    package static let componentLimit = 128
    package static let depthLimit = 8

    package let path: String

    package init(_ path: String) throws(StoreError) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= Self.depthLimit, parts.allSatisfy({ Self.isComponent($0) }) else {
            throw StoreError(
                .badName,
                Self.shown(path),
                "is no name of the store; use 1 to \(Self.componentLimit) of A-Z, a-z, 0-9, \".\", \"_\" and \"-\""
            )
        }
        self.path = path
    }

    private init(unchecked path: String) {
        self.path = path
    }

    package func child(_ name: String) throws(StoreError) -> StoreKey {
        try StoreKey("\(path)/\(name)")
    }

    /// The same for a name that was found to be a component already, as in a listing.
    func child(listed name: String) -> StoreKey { StoreKey(unchecked: "\(path)/\(name)") }

    /// The last component.
    package var name: String {
        path.utf8.withContiguousStorageIfAvailable { bytes in
            let start = bytes.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
            return String(decoding: UnsafeBufferPointer(rebasing: bytes[start...]), as: UTF8.self)
        } ?? String(path.split(separator: "/").last ?? "")
    }

    /// What stands above the last component; nil at the top.
    package var parent: StoreKey? {
        path.utf8.lastIndex(of: UInt8(ascii: "/")).map { StoreKey(unchecked: String(path[..<$0])) }
    }

    package var description: String { path }

    package static func < (left: StoreKey, right: StoreKey) -> Bool { left.path < right.path }

    package static func isComponent(_ name: some StringProtocol) -> Bool {
        let bytes = name.utf8
        guard (1...componentLimit).contains(bytes.count), bytes.first != UInt8(ascii: ".") else { return false }
        return bytes.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
    }

    /// A foreign name as it may stand in a message or a log line.
    static func shown(_ name: String) -> String {
        let safe = name.unicodeScalars.prefix(80).map { scalar in
            scalar.isASCII && scalar.value >= 0x20 && scalar.value != 0x7f ? String(scalar) : "?"
        }
        return "\"\(safe.joined())\""
    }
}

extension StoreKey: ExpressibleByStringLiteral {
    /// A literal is ours: a bad one is a bug.
    package init(stringLiteral path: String) {
        precondition(path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { Self.isComponent($0) })
        self.init(unchecked: path)
    }
}
