/// Nonces that the CA has given and that were not used (RFC 8555 section 6.5). The newest is used first.
struct NoncePool {
    private var nonces: [String] = []

    mutating func add(_ nonce: String) {
        if nonces.count == ACMELimits.nonces { nonces.removeFirst() }
        nonces.append(nonce)
    }

    mutating func take() -> String? { nonces.popLast() }

    /// What is old is as bad as the one that was refused.
    mutating func removeAll() { nonces.removeAll() }
}
