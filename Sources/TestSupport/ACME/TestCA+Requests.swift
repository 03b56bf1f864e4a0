package import ACME
package import Crypto
package import Formats

extension TestCA {
    /// A signed request whose signature, nonce and URL are right.
    package struct Signed {
        package var payload: [String: JSONValue]?
        package var key: P256.Signing.PublicKey
        package var thumbprint: String
        /// The URL of the account, or `nil` if the request is signed with the key itself.
        package var account: String?
    }

    private enum ProxyError: Error {
        case answer(ACMEResponse)
    }

    package func post(_ request: ACMERequest, _ path: String) -> ACMEResponse {
        do {
            let signed = try verify(request)
            signedRequests.append(path)
            payloads.append((path, signed.payload))
            return act(path, signed)
        } catch {
            guard case ProxyError.answer(let response) = error else { preconditionFailure("\(error)") }
            return response
        }
    }

    private func wrong(_ reason: String) -> ProxyError {
        violations.append(reason)
        return .answer(problem(400, "malformed", reason))
    }

    private func verify(_ request: ACMERequest) throws -> Signed {
        guard request.contentType == "application/jose+json" else { throw wrong("content type") }
        guard let jws = [String: JSONValue](json: request.body), jws.count == 3,
            let protected = jws["protected"]?.string, let payload = jws["payload"]?.string,
            let signature = jws["signature"]?.string.flatMap({ Base64URL.decode($0) }),
            let header = Base64URL.decode(protected).flatMap({ [String: JSONValue](json: $0) })
        else { throw wrong("no JWS") }
        guard header["alg"]?.string == "ES256" else { throw wrong("alg") }
        guard header["url"]?.string == request.url.text else { throw wrong("url") }
        guard let nonce = header["nonce"]?.string, nonces.remove(nonce) != nil else {
            throw ProxyError.answer(problem(400, "badNonce", "the nonce is not known"))
        }
        if generator.chance(faults.badNonce) {
            throw ProxyError.answer(problem(400, "badNonce", "the nonce is not liked"))
        }
        let (key, thumbprint, account) = try signer(header)
        guard let form = try? P256.Signing.ECDSASignature(rawRepresentation: signature),
            key.isValidSignature(form, for: Array("\(protected).\(payload)".utf8))
        else { throw wrong("signature") }
        guard let bytes = Base64URL.decode(payload) else { throw wrong("payload") }
        let fields = bytes.isEmpty ? nil : [String: JSONValue](json: bytes)
        guard bytes.isEmpty || fields != nil else { throw wrong("payload") }
        return Signed(payload: fields, key: key, thumbprint: thumbprint, account: account)
    }

    private func signer(_ header: [String: JSONValue]) throws -> (P256.Signing.PublicKey, String, String?) {
        if case .object(let jwk)? = header["jwk"], header["kid"] == nil, header.count == 4 {
            guard jwk["kty"]?.string == "EC", jwk["crv"]?.string == "P-256", jwk.count == 4,
                let x = jwk["x"]?.string.flatMap({ Base64URL.decode($0) }),
                let y = jwk["y"]?.string.flatMap({ Base64URL.decode($0) }),
                let key = try? P256.Signing.PublicKey(rawRepresentation: x + y)
            else { throw wrong("jwk") }
            return (key, Base64URL.encode(Array(SHA256.hash(data: jwk.json))), nil)
        }
        guard let kid = header["kid"]?.string, header["jwk"] == nil, header.count == 4 else { throw wrong("kid") }
        guard let account = accounts.values.first(where: { $0.url == kid }) else {
            throw ProxyError.answer(problem(400, "accountDoesNotExist", "no such account"))
        }
        return (account.key, account.thumbprint, kid)
    }

    private func act(_ path: String, _ signed: Signed) -> ACMEResponse {
        if path == "/sign-me-up" { return newAccount(signed) }
        guard let account = signed.account else {
            violations.append("\(path) without an account")
            return problem(400, "malformed", "jwk")
        }
        let parts = path.dropFirst().split(separator: "/").map(String.init)
        let url = Self.host + path
        switch (parts.first, parts.count) {
        case ("order-plz", 1): return newOrder(signed, account)
        case ("acct", 2):
            guard case .array(let contacts)? = signed.payload?["contact"] else { return problem(400, "malformed", "") }
            accounts[signed.thumbprint]?.contacts = contacts
            return ok(["status": .string("valid")])
        case ("order", 2):
            guard signed.payload == nil else { return problem(400, "malformed", "POST-as-GET") }
            guard let order = orders[url], order.account == account else { return problem(404, "malformed", "order") }
            return answer(order)
        case ("finalize", 2):
            return finalize("\(Self.host)/order/\(parts[1])", signed, account)
        case ("authz", 2):
            guard signed.payload == nil else { return problem(400, "malformed", "POST-as-GET") }
            guard let right = rights[url], right.account == account else { return problem(404, "malformed", "authz") }
            return answer(url, right)
        case ("chall", 3): return start("\(Self.host)/authz/\(parts[1])", parts[2], signed, account)
        case ("cert", 2):
            guard let order = orders["\(Self.host)/order/\(parts[1])"], order.account == account,
                let chain = order.chain
            else { return problem(404, "malformed", "certificate") }
            let alternate = "<\(Self.host)/cert/\(parts[1])/other>;rel=\"alternate\", <\(Self.directory)>;rel=\"index\""
            return ACMEResponse(
                status: 200,
                fields: fields(nonce: true) + [ACMEResponse.Field("Link", alternate)],
                body: chain
            )
        case ("cert", 3):
            guard let order = orders["\(Self.host)/order/\(parts[1])"], let chain = order.chain else {
                return problem(404, "malformed", "certificate")
            }
            return ACMEResponse(status: 200, fields: fields(nonce: true), body: authority.otherChain(chain))
        default: return problem(404, "malformed", "nothing is here")
        }
    }
}
