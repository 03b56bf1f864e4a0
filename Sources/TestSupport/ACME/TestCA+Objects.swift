package import ACME
import Crypto
import Formats

extension TestCA {
    package func newAccount(_ signed: Signed) -> ACMEResponse {
        guard signed.account == nil else {
            violations.append("newAccount with kid")
            return problem(400, "malformed", "kid")
        }
        if let account = accounts[signed.thumbprint] {
            return ok(["status": .string(account.status)], [ACMEResponse.Field("Location", account.url)])
        }
        if terms != nil, signed.payload?["termsOfServiceAgreed"] != .bool(true) {
            return problem(403, "userActionRequired", "agree to the terms")
        }
        if let external = externalAccount {
            guard case .object(let binding)? = signed.payload?["externalAccountBinding"],
                isGood(binding, external, signed)
            else { return problem(403, "externalAccountRequired", "no binding") }
        }
        var contacts: [JSONValue] = []
        if case .array(let list)? = signed.payload?["contact"] { contacts = list }
        let account = Account(
            url: next("\(Self.host)/acct/"),
            key: signed.key,
            thumbprint: signed.thumbprint,
            contacts: contacts
        )
        accounts[signed.thumbprint] = account
        return ok(["status": .string("valid")], status: 201, [ACMEResponse.Field("Location", account.url)])
    }

    private func isGood(_ binding: [String: JSONValue], _ external: ExternalAccount, _ signed: Signed) -> Bool {
        guard let protected = binding["protected"]?.string, let payload = binding["payload"]?.string,
            let header = Base64URL.decode(protected).flatMap({ [String: JSONValue](json: $0) }),
            let jwk = Base64URL.decode(payload), header["alg"]?.string == "HS256",
            header["kid"]?.string == external.keyID, header["url"]?.string == "\(Self.host)/sign-me-up",
            Base64URL.encode(Array(SHA256.hash(data: jwk))) == signed.thumbprint
        else { return false }
        // The key of ExternalAccount("kid-1") in the tests.
        let mac = HMAC<SHA256>.authenticationCode(
            for: Array("\(protected).\(payload)".utf8),
            using: SymmetricKey(data: Array("the mac key of the tests".utf8))
        )
        return binding["signature"]?.string == Base64URL.encode(Array(mac))
    }

    package func newOrder(_ signed: Signed, _ account: String) -> ACMEResponse {
        if let until = rateLimitedUntil, now < until {
            return problem(
                429,
                "rateLimited",
                "too many certificates",
                [ACMEResponse.Field("Retry-After", until.httpDate)]
            )
        }
        guard case .array(let list)? = signed.payload?["identifiers"], !list.isEmpty else {
            violations.append("newOrder without names")
            return problem(400, "malformed", "identifiers")
        }
        if signed.payload?["replaces"] != nil, let refusedReplaces {
            return problem(409, refusedReplaces, "that one is replaced")
        }
        let names = list.compactMap { value -> ACMEIdentifier? in
            guard case .object(let fields) = value, let name = CertificateName(fields["value"]?.string ?? "") else {
                return nil
            }
            return ACMEIdentifier(name)
        }
        let rejected = names.filter { rejectedNames.contains($0.value) }
        if !rejected.isEmpty {
            var fields = Self.problemFields("rejectedIdentifier", "policy")
            fields["subproblems"] = .array(
                rejected.map { .object(Self.problemFields("rejectedIdentifier", "\($0) is forbidden", name: $0)) }
            )
            return ACMEResponse(status: 400, fields: self.fields(nonce: true), body: fields.json)
        }
        if reusesOrders,
            let order = orders.values.first(where: {
                $0.account == account && Set($0.names) == Set(names) && ["pending", "ready"].contains($0.status)
            })
        {
            return answer(order, status: 201)
        }
        let id = next("o")
        var order = Order(url: "\(Self.host)/order/\(id)", account: account, names: names, rights: [])
        order.profile = signed.payload?["profile"]?.string
        for name in names {
            let url = next("\(Self.host)/authz/a")
            let isWildcard = name.value.hasPrefix("*.")
            let base = CertificateName(isWildcard ? String(name.value.dropFirst(2)) : name.value)!
            rights[url] = Right(
                name: ACMEIdentifier(base),
                isWildcard: isWildcard,
                account: account,
                token: next("token_-")
            )
            order.rights.append(url)
        }
        orders[order.url] = order
        return answer(order, status: 201)
    }

    package func answer(_ order: Order, status: Int = 200) -> ACMEResponse {
        let id = String(order.url.dropFirst("\(Self.host)/order/".count))
        var fields: [String: JSONValue] = [
            "status": .string(order.status), "expires": .string((now + 86_400).rfc3339),
            "identifiers": .array(
                order.names.map { .object(["type": .string($0.type), "value": .string($0.value)]) }
            ),
            "authorizations": .array(order.rights.map { .string($0) }),
            "finalize": .string("\(Self.host)/finalize/\(id)"),
        ]
        if order.chain != nil { fields["certificate"] = .string("\(Self.host)/cert/\(id)") }
        if let error = order.error { fields["error"] = .object(error) }
        var more = [ACMEResponse.Field("Location", order.url)]
        if order.status == "processing" { more += waitFields() }
        return ok(fields, status: status, more)
    }

    package func answer(_ url: String, _ right: Right) -> ACMEResponse {
        let id = String(url.dropFirst("\(Self.host)/authz/".count))
        let kinds = right.isWildcard ? challenges.filter { $0.hasPrefix("dns") } : challenges
        let list = kinds.map { kind -> JSONValue in
            var fields: [String: JSONValue] = [
                "type": .string(kind), "url": .string("\(Self.host)/chall/\(id)/\(kind)"),
                "token": .string(right.token), "status": .string("pending"),
            ]
            if right.running == kind {
                fields["status"] = .string(right.status == "pending" ? "processing" : right.status)
                if let error = right.error { fields["error"] = .object(error) }
            }
            return .object(fields)
        }
        var fields: [String: JSONValue] = [
            "status": .string(right.status), "challenges": .array(list), "expires": .null,
            "identifier": .object(["type": .string(right.name.type), "value": .string(right.name.value)]),
        ]
        if right.isWildcard { fields["wildcard"] = .bool(true) }
        return ok(fields, right.status == "pending" && right.running != nil ? waitFields() : [])
    }

    package func start(_ url: String, _ kind: String, _ signed: Signed, _ account: String) -> ACMEResponse {
        guard signed.payload == [:] else {
            violations.append("a challenge is started with {}")
            return problem(400, "malformed", "payload")
        }
        guard var right = rights[url], right.account == account, challenges.contains(kind) else {
            return problem(404, "malformed", "challenge")
        }
        guard right.status == "pending", right.running == nil else {
            return problem(400, "malformed", "the authorization is not pending")
        }
        right.running = kind
        right.readyAt = now + validationTime
        rights[url] = right
        settle()
        let id = String(url.dropFirst("\(Self.host)/authz/".count))
        return ok([
            "type": .string(kind), "url": .string("\(Self.host)/chall/\(id)/\(kind)"),
            "token": .string(right.token), "status": .string("processing"),
        ])
    }

    package func finalize(_ url: String, _ signed: Signed, _ account: String) -> ACMEResponse {
        guard var order = orders[url], order.account == account else { return problem(404, "malformed", "order") }
        guard order.status == "ready" else { return problem(403, "orderNotReady", "the order is \(order.status)") }
        guard let request = signed.payload?["csr"]?.string.flatMap({ Base64URL.decode($0) }),
            let names = try? TestIssuer.names(request), Set(names) == Set(order.names.compactMap(\.name))
        else {
            violations.append("a bad CSR")
            return problem(400, "badCSR", "other names")
        }
        order.request = request
        order.status = "processing"
        order.readyAt = now + issuanceTime
        orders[url] = order
        return answer(order)
    }

    /// Advances everything that happens by itself to the present time.
    package func settle() {
        for (url, right) in rights where right.status == "pending" {
            guard let kind = right.running.flatMap({ ChallengeKind(rawValue: $0) }), let at = right.readyAt, at <= now
            else { continue }
            let account = accounts.values.first { $0.url == right.account }
            let authorization = "\(right.token).\(account?.thumbprint ?? "")"
            let isFound = validators(
                Expected(kind: kind, name: right.name.name!, token: right.token, authorization: authorization)
            )
            rights[url]?.status = isFound ? "valid" : "invalid"
            if !isFound {
                let type = kind == .dns01 ? "dns" : "connection"
                rights[url]?.error = Self.problemFields(type, "nothing was found for \(right.name)")
            }
        }
        for (url, order) in orders {
            let states = order.rights.map { rights[$0]?.status ?? "invalid" }
            switch order.status {
            case "pending" where states.contains("invalid"): orders[url]?.status = "invalid"
            case "pending" where states.allSatisfy { $0 == "valid" }: orders[url]?.status = "ready"
            case "processing":
                guard let at = order.readyAt, at <= now, let request = order.request else { continue }
                orders[url]?.status = "valid"
                orders[url]?.chain = authority.issue(request, from: now - 3_600, lifetime: lifetime)
                issuedCount += 1
            default: break
            }
        }
    }
}
