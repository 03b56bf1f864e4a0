/// Returns the file of a version of a value as a store writes it.
package func storedFile(_ bytes: [UInt8], isRemoved: Bool = false, epoch: UInt64 = 0) -> [UInt8] {
    let nonce = String(repeating: "0", count: 32)
    return Array("HGV2 \(isRemoved ? "removed" : "value") \(epoch) \(nonce)\n".utf8) + bytes
}
