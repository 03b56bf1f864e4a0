/// The name of a value in the store: components of `[A-Za-z0-9._-]` joined by "/", none of which
/// begins with a dot.
///
/// A name is validated once, when the key is created: the path of a key cannot lead out of the store's folder.
package struct StoreKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The highest number of bytes of a component: the limit of a file name, which every file system has.
    package static let componentLimit = 255
    /// The highest number of components.
    package static let depthLimit = 8

    package let path: String

    package init(_ path: String) throws(StoreError) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= Self.depthLimit, parts.allSatisfy({ Self.isComponent($0) }) else {
            throw StoreError(
                .badName,
                Self.printable(path),
                "is not a valid name in the store; use 1 to \(Self.componentLimit) of "
                    + "A-Z, a-z, 0-9, \".\", \"_\" and \"-\""
            )
        }
        self.path = path
    }

    private init(unchecked path: String) {
        self.path = path
    }

    /// Returns the key one level below.
    package func child(_ name: String) throws(StoreError) -> StoreKey {
        // What is above was validated when this key was created.
        guard Self.isComponent(name), depth < Self.depthLimit else { return try StoreKey("\(path)/\(name)") }
        return child(listed: name)
    }

    /// The number of components.
    var depth: Int { path.utf8.count { $0 == UInt8(ascii: "/") } + 1 }

    /// Returns the key of a name that has already been validated, as in a listing.
    func child(listed name: String) -> StoreKey { StoreKey(unchecked: "\(path)/\(name)") }

    /// The last component.
    package var name: String {
        path.utf8.withContiguousStorageIfAvailable { bytes in
            let start = bytes.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
            return String(decoding: UnsafeBufferPointer(rebasing: bytes[start...]), as: UTF8.self)
        } ?? String(path.split(separator: "/").last ?? "")
    }

    /// The key without its last component, or `nil` if it has only one.
    package var parent: StoreKey? {
        path.utf8.lastIndex(of: UInt8(ascii: "/")).map { StoreKey(unchecked: String(path[..<$0])) }
    }

    package var description: String { path }

    package static func < (left: StoreKey, right: StoreKey) -> Bool { left.path < right.path }

    /// Whether a name may be a component of a key.
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

    /// Returns a foreign name in a form that is safe in a message or a log line.
    static func printable(_ name: String) -> String {
        let safe = name.unicodeScalars.prefix(80).map { scalar in
            scalar.isASCII && scalar.value >= 0x20 && scalar.value != 0x7f ? String(scalar) : "?"
        }
        return "\"\(safe.joined())\""
    }
}

extension StoreKey: ExpressibleByStringLiteral {
    /// Creates a key from a literal. An invalid literal is a programming error.
    package init(stringLiteral path: String) {
        precondition(path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { Self.isComponent($0) })
        self.init(unchecked: path)
    }
}

extension StoreKey {
    /// The key of the document that names the cluster and its keys.
    package static let clusterDocument: StoreKey = "cluster.json"
}
