import ACME
import Crypto
import Formats
import Testing

@Suite("Signed requests")
struct JWSTests {
    /// RFC 7515 appendix A.3.
    private static let key = AccountKey(raw: Base64URL.decode("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")!)!
    private static let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

    @Test("RFC 7515 A.3: the public key and the form of an ES256 signature")
    func es256() throws {
        #expect(
            Self.key.jwk == [
                "kty": .string("EC"), "crv": .string("P-256"),
                "x": .string("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
                "y": .string("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
            ]
        )
        let input = Array("eyJhbGciOiJFUzI1NiJ9.\(Self.payload)".utf8)
        let text = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
        for signature in [try #require(Base64URL.decode(text)), Self.key.sign(input)] {
            #expect(signature.count == 64)
            let form = try P256.Signing.ECDSASignature(rawRepresentation: signature)
            #expect(Self.key.publicKey.isValidSignature(form, for: input))
            #expect(!Self.key.publicKey.isValidSignature(form, for: input + [0]))
        }
    }

    @Test("RFC 7515 A.1: HS256")
    func hs256() throws {
        let text = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
        let key = try #require(Base64URL.decode(text))
        let input = Array("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\(Self.payload)".utf8)
        #expect(Base64URL.encode(JWS.hs256(input, key)) == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    }

    @Test("RFC 7638 §3.1 and RFC 9449 §6.1: thumbprints")
    func thumbprints() {
        let modulus =
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK"
            + "RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMic"
            + "AtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3"
            + "XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        let rsa = AccountKey.thumbprint(["kty": .string("RSA"), "e": .string("AQAB"), "n": .string(modulus)])
        #expect(rsa == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
        let curve = AccountKey.thumbprint([
            "kty": .string("EC"), "crv": .string("P-256"), "x": .string("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"),
            "y": .string("9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"),
        ])
        #expect(curve == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I")
        let key = AccountKey()
        #expect(key.keyAuthorization("token") == "token.\(key.thumbprint)")
    }

    @Test("A request is a flattened JWS with alg, nonce, url, and kid or jwk; a POST-as-GET has an empty payload")
    func flattened() throws {
        let url = ACMEURL("https://ca.test/order/1")!
        let account = ACMEURL("https://ca.test/acct/1")!
        let cases: [([String: JSONValue]?, JWS.Signer)] = [
            (nil, .account(account)), ([:], .account(account)), ([:], .key),
        ]
        for (payload, signer) in cases {
            let bytes = JWS.sign(payload, with: Self.key, as: signer, nonce: "n0", url: url)
            let fields = try #require([String: JSONValue](json: bytes))
            #expect(Set(fields.keys) == ["protected", "payload", "signature"])
            let protected = try #require(fields["protected"]?.string.flatMap { Base64URL.decode($0) })
            let header = try #require([String: JSONValue](json: protected))
            #expect(header["alg"] == .string("ES256") && header["nonce"] == .string("n0"))
            #expect(header["url"] == .string(url.text) && header.count == 4)
            #expect(signer == .key ? header["jwk"] == .object(Self.key.jwk) : header["kid"] == .string(account.text))
            #expect(fields["payload"] == .string(payload == nil ? "" : "e30"))
        }
    }

    @Test("An external binding signs our key with the CA's (RFC 8555 §7.3.4)")
    func binding() throws {
        let external = try #require(ExternalAccount(keyID: "kid-1", key: "AAECAw"))
        let url = ACMEURL("https://ca.test/new")!
        let fields = JWS.binding(external, to: Self.key, url: url)
        let protected = try #require(fields["protected"]?.string)
        let payload = try #require(fields["payload"]?.string)
        #expect(Base64URL.decode(payload) == Self.key.jwk.json)
        let header = Base64URL.decode(protected).flatMap { [String: JSONValue](json: $0) }
        #expect(header == ["alg": .string("HS256"), "kid": .string("kid-1"), "url": .string(url.text)])
        let mac = JWS.hs256(Array("\(protected).\(payload)".utf8), [0, 1, 2, 3])
        #expect(fields["signature"] == .string(Base64URL.encode(mac)))
    }

    @Test("Keys survive PEM and bytes, and are never shown")
    func serialization() {
        let key = AccountKey()
        #expect(AccountKey(pem: key.pem) == key && AccountKey(raw: key.raw) == key)
        #expect(AccountKey() != key)
        #expect(AccountKey(pem: "x") == nil && AccountKey(raw: [1, 2]) == nil)
        #expect(AccountKey(raw: [UInt8](repeating: 0, count: 32)) == nil)
        #expect("\(key)" == "account key \(key.thumbprint)")
        #expect(LeafKey(pem: key.pem)?.pem == key.pem)
        #expect("\(LeafKey())" == "leaf key")
    }

    @Test("RFC 9773 §4.1: what a certificate is called")
    func renewalID() {
        let authority: [UInt8] = [
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01,
            0xc8, 0xd4,
        ]
        let id = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
        #expect(CertificateFacts.renewalID(authorityKey: authority, serial: [0x00, 0x87, 0x65, 0x43, 0x21]) == id)
        #expect(CertificateFacts.renewalID(authorityKey: authority, serial: [0x87, 0x65, 0x43, 0x21]) == id)
        #expect(CertificateFacts.renewalID(authorityKey: [1], serial: [0, 0x7f]) == "AQ.fw")
        #expect(CertificateFacts.renewalID(authorityKey: [1], serial: []) == "AQ.AA")
    }
}
