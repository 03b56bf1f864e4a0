import Formats

extension OrderMachine {
    /// Continues once the directory is known. Requests that the CA would reject according to its directory fail here
    /// without being sent.
    mutating func handleDirectory(_ now: Instant) -> Action {
        let directory = required(directory)
        requests.newNonce = directory.newNonce
        if let profile = plan?.profile, directory.profiles[profile] == nil {
            let offered = directory.profiles.keys.sorted().map { UntrustedText.sanitised($0, limit: 40) }
            let list = offered.isEmpty ? "none" : offered.joined(separator: ", ")
            return fail(
                ACMEFailure(.profileNotOffered, .directory, "the CA has no profile \"\(profile)\"; it offers \(list)")
            )
        }
        return account.url == nil ? register(now) : compareContacts(now)
    }

    private mutating func register(_ now: Instant) -> Action {
        let directory = required(directory)
        if directory.requiresExternalAccount, authority.externalAccount == nil {
            let detail = "the CA requires an external account binding"
            return fail(ACMEFailure(.externalAccountRequired, .account, detail))
        }
        return call(.newAccount, now)
    }

    var contacts: JSONValue { .array(authority.contacts.map { .string("mailto:\($0)") }) }

    /// The payload of a registration (RFC 8555 §7.3).
    func registration(_ url: ACMEURL) -> [String: JSONValue] {
        var payload: [String: JSONValue] = ["termsOfServiceAgreed": .bool(true)]
        if !authority.contacts.isEmpty { payload["contact"] = contacts }
        if let external = authority.externalAccount {
            payload["externalAccountBinding"] = .object(JWS.binding(external, to: account.key, url: url))
        }
        return payload
    }

    /// Handles the response to a registration. Status 201 means that the account is new, 200 that the key already had
    /// one (RFC 8555 §7.3.1).
    mutating func handleAccount(_ response: ACMEResponse) throws(ACMEMessageError) -> Action {
        let status = try ACMEAccount(response.body).status
        guard status == .valid else {
            return fail(ACMEFailure(.accountClosed, .account, "the account is \(status.rawValue)"))
        }
        account.url = try location(response, "account")
        // An existing account keeps the contacts that it had, so they are compared and updated next.
        account.contacts = response.status == 201 ? authority.contacts : []
        state = .storingAccount
        return .storeAccount(account)
    }

    func location(_ response: ACMEResponse, _ place: String) throws(ACMEMessageError) -> ACMEURL {
        guard let text = response.first("location") else {
            throw ACMEMessageError(place, "has no URL: the Location header is missing")
        }
        return try DocumentReader.url(text, "\(place): Location", from: authority.directory)
    }

    mutating func compareContacts(_ now: Instant) -> Action {
        guard account.contacts == authority.contacts else { return call(.updateAccount, now) }
        guard plan != nil else { return end(.accountReady(required(directory))) }
        return call(record == nil ? .newOrder : .order, now)
    }

    /// Registers the same key again, at most once, after the CA reported that the account does not exist.
    mutating func registerAgain(_ problem: ACMEProblem, _ purpose: Purpose, _ now: Instant) -> Action {
        guard !hasRegisteredAgain else {
            // The account was registered again, so the stored order belongs to the previous one.
            if mayOrderBeGone, purpose.isOfOrder { return replaceOrder(now) }
            return fail(ACMEFailure(problem, purpose.step))
        }
        hasRegisteredAgain = true
        mayOrderBeGone = record != nil
        account.url = nil
        return register(now)
    }
}
