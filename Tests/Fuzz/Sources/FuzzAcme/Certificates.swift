import Certificates
import Formats
import Store

private let place: StoreKey = "certs/a.test"
private let signing = ClusterKey(secret: [UInt8](repeating: 7, count: 32))

/// Checks the document of a certificate, with a valid seal, and the chain and the key in it.
func checkCertificate(_ bytes: [UInt8]) {
    precondition(document(bytes) == nil, "a document made without the key is valid")
    guard var fields = [String: JSONValue](json: bytes) else { return }
    fields["mac"] = nil
    guard let read = document(SealedDocument.seal(fields.json, at: place, with: signing)) else { return }
    precondition(document(read.sealed(at: place, with: signing)) == read, "sealing changed a document")
    guard let served = pair(read.chain, read.key) else { return }
    let again = pair(served.chainPEM, served.keyPEM)
    precondition(again?.leafSHA256 == served.leafSHA256 && again?.names == served.names, "another certificate")
}

private func document(_ bytes: [UInt8]) -> CertificateDocument? {
    try? CertificateDocument(StoredValue(bytes: bytes, version: 1), at: place, ClusterKeyring([signing]))
}

private func pair(_ chain: [UInt8], _ key: [UInt8]) -> ServerCertificate? {
    try? ServerCertificate(chain: chain, key: key, chainPath: "chain", keyPath: "key")
}
