import Crypto
package import Formats

/// Signatures of requests, in the flattened JSON serialisation (RFC 7515 §7.2.2) that RFC 8555 §6.2 requires.
package enum JWS {
    /// The form in which a request identifies the key that signed it.
    package enum Signer: Equatable, Sendable {
        /// The public key itself (`jwk`), used to create accounts.
        case key
        /// The URL of the account (`kid`).
        case account(ACMEURL)
    }

    /// Signs one request.
    ///
    /// - Parameter payload: The payload, or `nil` for a POST-as-GET (RFC 8555 §6.3).
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

    /// Creates an external account binding (RFC 8555 §7.3.4): the proof that the holder of the customer account
    /// requests this key.
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

/// The credentials that a CA gives to a customer to bind ACME accounts to the customer's account (RFC 8555 §7.3.4).
package struct ExternalAccount: Equatable, Sendable {
    package let keyID: String
    package let macKey: [UInt8]

    /// Creates credentials, or returns `nil` if the key identifier is empty or the key cannot be decoded.
    ///
    /// - Parameter key: The MAC key in base64url as the standard requires, or in plain base64 as some CAs display it.
    package init?(keyID: String, key: String) {
        var text = ""
        for character in key where character != "=" {
            switch character {
            case "+": text.append("-")
            case "/": text.append("_")
            default: text.append(character)
            }
        }
        guard !keyID.isEmpty, let bytes = Base64URL.decode(text), !bytes.isEmpty else { return nil }
        self.keyID = keyID
        macKey = bytes
    }
}

extension ExternalAccount: CustomStringConvertible {
    /// The key identifier, so that the MAC key is never logged.
    package var description: String { "external account \(keyID)" }
}
