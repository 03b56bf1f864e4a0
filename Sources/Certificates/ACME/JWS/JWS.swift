import Crypto
package import Formats

/// Signed requests: the flattened JSON serialization of RFC 7515 section 7.2.2, as RFC 8555 section 6.2 wants it.
package enum JWS {
    /// Who signs.
    package enum Signer: Equatable, Sendable {
        /// The key itself is named: for new accounts.
        case key
        /// The account is named by its URL.
        case account(ACMEURL)
    }

    /// - Parameter payload: nil: a POST-as-GET (RFC 8555 section 6.3).
    package static func sign(
        _ payload: [String: JSONValue]?,
        with key: AccountKey,
        as signer: Signer,
        nonce: String,
        url: ACMEURL
    ) -> [UInt8] {
        var header: [String: JSONValue] = [
            "alg": .string("ES256"), "nonce": .string(nonce), "url": .string(url.text),
        ]
        switch signer {
        case .key: header["jwk"] = .object(key.jwk)
        case .account(let account): header["kid"] = .string(account.text)
        }
        return flattened(header, payload?.json ?? []) { key.sign($0) }.json
    }

    /// The proof that the holder of an account elsewhere at the CA wants this key (RFC 8555 section 7.3.4).
    package static func binding(_ account: ExternalAccount, to key: AccountKey, url: ACMEURL) -> [String: JSONValue] {
        let header: [String: JSONValue] = [
            "alg": .string("HS256"), "kid": .string(account.keyID), "url": .string(url.text),
        ]
        return flattened(header, key.jwk.json) { hs256($0, account.macKey) }
    }

    package static func hs256(_ bytes: [UInt8], _ key: [UInt8]) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: bytes, using: SymmetricKey(data: key)))
    }

    private static func flattened(
        _ header: [String: JSONValue],
        _ payload: [UInt8],
        _ sign: ([UInt8]) -> [UInt8]
    ) -> [String: JSONValue] {
        let protected = Base64URL.encode(header.json)
        let payload = Base64URL.encode(payload)
        let signature = sign(Array("\(protected).\(payload)".utf8))
        return [
            "protected": .string(protected), "payload": .string(payload),
            "signature": .string(Base64URL.encode(signature)),
        ]
    }
}
