import Formats

/// A JSON object whose first field is a MAC over all other bytes, exactly as they are stored:
///
/// ```
/// {"mac":"<key id>.<64 hexadecimal digits>",…the other fields…}
/// ```
///
/// There is no canonical form, so a document has one reading only, and an edit by hand invalidates it. The MAC also
/// covers the location of the document (its key and version, or its incarnation), so that a copy elsewhere is not
/// valid.
package enum SealedDocument {
    private static let beginning = Array(#"{"mac":""#.utf8)

    /// Seals a document.
    ///
    /// - Parameters:
    ///   - body: A JSON object without surrounding whitespace and without a field "mac".
    ///   - context: The location of the document.
    package static func seal(
        _ body: [UInt8],
        _ purpose: ClusterKey.Purpose,
        context: String,
        with key: ClusterKey
    ) -> [UInt8] {
        precondition(body.first == UInt8(ascii: "{") && body.last == UInt8(ascii: "}"), "a JSON object is sealed")
        let mac = Hex.string(key.mac(purpose, context: context, body))
        var bytes = beginning + Array("\(key.id).\(mac)\"".utf8)
        if body.count > 2 { bytes.append(UInt8(ascii: ",")) }
        bytes += body.dropFirst()
        return bytes
    }

    /// Seals the value of a key whose values are sealed.
    ///
    /// - Parameter version: The version that the value will have, which is needed only if the MAC covers it.
    package static func seal(
        _ body: [UInt8],
        at key: StoreKey,
        version: UInt64? = nil,
        with signing: ClusterKey
    ) -> [UInt8] {
        let (purpose, context) = mark(of: key, version)
        return seal(body, purpose, context: context, with: signing)
    }

    /// Verifies the value of a key whose values are sealed, and returns the object without its MAC.
    ///
    /// - Parameter archive: The backup that holds the value, or `nil` if it is in the store.
    package static func open(
        _ stored: StoredValue,
        at key: StoreKey,
        with keyring: ClusterKeyring,
        in archive: String? = nil
    ) throws(StoreError) -> [UInt8] {
        let (purpose, context) = mark(of: key, stored.version)
        do {
            return try open(
                stored.bytes,
                purpose,
                context: context,
                with: keyring,
                place: (archive.map { "\($0): " } ?? "") + "\(key)/\(stored.version)"
            )
        } catch {
            guard archive == nil, error.code == .corrupt || error.code == .foreign else { throw error }
            let remedy = StoreLayout.remedy(for: key)
            // A key that another replica has been given is no reason to remove the value.
            let mounting = error.code == .foreign ? "if other replicas have that key, mount it here, too; if not, " : ""
            throw error.adding(mounting + remedy)
        }
    }

    /// Whether the values of a key are sealed.
    package static func isSealed(_ key: StoreKey) -> Bool { kind(of: key) != nil }

    /// The purpose and the context of a sealed value.
    private static func mark(of key: StoreKey, _ version: UInt64?) -> (purpose: ClusterKey.Purpose, context: String) {
        guard let (purpose, coversVersion) = kind(of: key) else { preconditionFailure("\(key) is not sealed") }
        guard coversVersion else { return (purpose, key.path) }
        guard let version else { preconditionFailure("the MAC of \(key) covers the version") }
        return (purpose, "\(key)/\(version)")
    }

    /// The purpose of a sealed value, and whether its MAC covers the version; `nil` if the values of the key are not
    /// sealed. Where it does, an older version cannot take the place of a newer one. Certificates are rewritten by the
    /// driver when a lease changes hands, so their context is the key alone, and challenges live for an hour at most.
    private static func kind(of key: StoreKey) -> (purpose: ClusterKey.Purpose, coversVersion: Bool)? {
        if key == .clusterDocument { return (.cluster, true) }
        switch key.parent {
        case StoreLayout.credentials: return (.credential, true)
        case StoreLayout.certificates: return (.certificate, false)
        case StoreLayout.challenges: return (.challenge, false)
        default: return nil
        }
    }

    /// Verifies a document and returns the object without its MAC.
    ///
    /// - Parameter place: The location for messages; evaluated only for an error.
    /// - Throws: `corrupt` if the MAC is missing or wrong, `foreign` if its key is not in the keyring.
    package static func open(
        _ bytes: [UInt8],
        _ purpose: ClusterKey.Purpose,
        context: String,
        with keyring: ClusterKeyring,
        place: @autoclosure () -> String
    ) throws(StoreError) -> [UInt8] {
        guard let (keyID, mac, body) = parts(bytes) else {
            throw StoreError(.corrupt, place(), "has no MAC: it was created or edited by hand")
        }
        guard let key = keyring.keys.first(where: { $0.id.utf8.elementsEqual(keyID) }) else {
            let keyID = String(decoding: keyID, as: UTF8.self)
            throw StoreError(.foreign, place(), "is signed with a key that this gateway does not have (\(keyID))")
        }
        guard key.isMAC(mac, purpose, context: context, of: body) else {
            throw StoreError(.corrupt, place(), "has a wrong MAC: it was edited, copied from elsewhere, or damaged")
        }
        return body
    }

    /// Returns the id of the key that a document names. The document is not verified.
    package static func keyID(_ bytes: [UInt8]) -> String? {
        parts(bytes).map { String(decoding: $0.keyID, as: UTF8.self) }
    }

    private static func parts(_ bytes: [UInt8]) -> (keyID: ArraySlice<UInt8>, mac: [UInt8], body: [UInt8])? {
        // 32 digits of the id, a dot, 64 digits of the MAC, a quotation mark, and "," or "}".
        let start = beginning.count
        guard bytes.starts(with: beginning), bytes.count >= start + 99, bytes[start + 97] == UInt8(ascii: "\"") else {
            return nil
        }
        guard bytes[start + 32] == UInt8(ascii: "."), let mac = Hex.bytes(of: bytes[start + 33..<start + 97]) else {
            return nil
        }
        let keyID = bytes[start..<start + 32]
        let rest = bytes[(start + 98)...]
        let hasFields = rest.count > 1
        let inner = hasFields ? rest.dropFirst() : rest
        guard inner.last == UInt8(ascii: "}") else { return nil }
        if hasFields, rest.first != UInt8(ascii: ",") || inner.count == 1 { return nil }
        return (keyID, mac, [UInt8(ascii: "{")] + inner)
    }
}
