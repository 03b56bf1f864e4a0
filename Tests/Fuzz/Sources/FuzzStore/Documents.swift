import Formats
import Store

private let known = ClusterKey(secret: (0..<32).map { UInt8($0) })
private let keyring = ClusterKeyring([known])

/// Verifies that a parsed value survives writing and parsing again, byte for byte the same the second time.
func checkJSON(_ bytes: [UInt8]) {
    do throws(JSONError) {
        let value = try JSONValue(json: bytes)
        let written = value.json
        do throws(JSONError) {
            let again = try JSONValue(json: written)
            precondition(again == value && again.json == written, "writing changed a value")
        } catch {
            // Escapes lengthen the text: only one that was near the limit may exceed it now.
            precondition(written.count > JSONLimits().size, "written JSON cannot be parsed: \(error)")
        }
    } catch {
        precondition(
            (0...bytes.count).contains(error.offset) && !error.reason.isEmpty,
            "an error has no position or reason"
        )
    }
}

/// Verifies that a document that was made without the key is never valid.
func checkSealed(_ bytes: [UInt8]) {
    let body = try? SealedDocument.open(bytes, .credential, context: "agents/x/1", with: keyring, place: "x")
    precondition(body == nil, "a document made without the key is valid")
}

/// Verifies that a sealed document is valid at its own location only.
func checkBody(_ bytes: [UInt8]) {
    guard let fields = [String: JSONValue](json: bytes), fields["mac"] == nil else { return }
    let body = fields.json
    let sealed = SealedDocument.seal(body, .credential, context: "agents/x/1", with: known)
    precondition((try? open(sealed, "agents/x/1")) == body, "a sealed document cannot be opened")
    precondition((try? open(sealed, "agents/x/2")) == nil, "a document is valid at another location")
    precondition([String: JSONValue](json: sealed)?.count == fields.count + 1, "the seal is not one additional field")
}

private func open(_ bytes: [UInt8], _ context: String) throws(StoreError) -> [UInt8] {
    try SealedDocument.open(bytes, .credential, context: context, with: keyring, place: "x")
}

/// Verifies that a parsed key file holds distinct keys.
func checkKeys(_ bytes: [UInt8]) {
    guard let keys = try? ClusterKeyFile.parse(bytes, path: "key") else { return }
    precondition(!keys.isEmpty && Set(keys.map(\.id)).count == keys.count, "a key file without keys or with duplicates")
}
