import Formats
import Store

private let known = ClusterKey(secret: (0..<32).map { UInt8($0) })
private let keyring = ClusterKeyring([known])

/// What is read is read again from what it writes, byte for byte the same the second time.
func checkJSON(_ bytes: [UInt8]) {
    do throws(JSONError) {
        let value = try JSONValue(json: bytes)
        let written = value.json
        do throws(JSONError) {
            let again = try JSONValue(json: written)
            precondition(again == value && again.json == written, "writing changed a value")
        } catch {
            // Escapes make it longer: only what was near the bound may be above it now.
            precondition(written.count > JSONLimits().size, "what was written cannot be read: \(error)")
        }
    } catch {
        precondition((0...bytes.count).contains(error.offset) && !error.reason.isEmpty, "no place is told")
    }
}

/// A document that somebody else wrote is never genuine.
func checkSealed(_ bytes: [UInt8]) {
    let body = try? SealedDocument.open(bytes, .credential, context: "agents/x/1", with: keyring, place: "x")
    precondition(body == nil, "a document without the key is genuine")
}

/// What is sealed opens at its place and nowhere else.
func checkBody(_ bytes: [UInt8]) {
    guard let fields = [String: JSONValue](json: bytes), fields["mac"] == nil else { return }
    let body = fields.json
    let sealed = SealedDocument.seal(body, .credential, context: "agents/x/1", with: known)
    precondition((try? open(sealed, "agents/x/1")) == body, "what was sealed cannot be opened")
    precondition((try? open(sealed, "agents/x/2")) == nil, "a document is genuine elsewhere")
    precondition([String: JSONValue](json: sealed)?.count == fields.count + 1, "the seal is no field")
}

private func open(_ bytes: [UInt8], _ context: String) throws(StoreError) -> [UInt8] {
    try SealedDocument.open(bytes, .credential, context: context, with: keyring, place: "x")
}

/// Key files of any content name keys, or a line.
func checkKeys(_ bytes: [UInt8]) {
    guard let keys = try? ClusterKeyFile.parse(bytes, path: "key") else { return }
    precondition(!keys.isEmpty && Set(keys.map(\.id)).count == keys.count, "a key twice")
}
