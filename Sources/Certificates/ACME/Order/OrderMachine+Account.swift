import Formats
import Store

extension OrderMachine {
    /// The directory is there: what can be refused now costs the CA nothing.
    mutating func directoryKnown(_ now: Instant) -> Action {
        let directory = known(directory)
        exchange.newNonce = directory.newNonce
        if let profile = plan?.profile, directory.profiles[profile] == nil {
            let offered = directory.profiles.keys.sorted().map { ForeignText.shown($0, limit: 40) }
            let list = offered.isEmpty ? "none" : offered.joined(separator: ", ")
            return fail(
                ACMEFailure(.profileNotOffered, .directory, "the CA has no profile \"\(profile)\"; it offers \(list)")
            )
        }
        return account.url == nil ? register(now) : contactsCompared(now)
    }

    private mutating func register(_ now: Instant) -> Action {
        let directory = known(directory)
        if let terms = directory.termsOfService, !authority.agreesToTerms {
            return fail(ACMEFailure(.termsNotAgreed, .account, "the CA has terms of service", instance: terms))
        }
        if directory.requiresExternalAccount, authority.externalAccount == nil {
            let detail = "the CA takes only accounts that are bound to one of its own"
            return fail(ACMEFailure(.externalAccountRequired, .account, detail))
        }
        return call(.newAccount, now)
    }

    var contacts: JSONValue { .array(authority.contacts.map { .string("mailto:\($0)") }) }

    /// RFC 8555 section 7.3.
    func registration(_ url: ACMEURL) -> [String: JSONValue] {
        var payload: [String: JSONValue] = [:]
        if !authority.contacts.isEmpty { payload["contact"] = contacts }
        if authority.agreesToTerms { payload["termsOfServiceAgreed"] = .bool(true) }
        if let external = authority.externalAccount {
            payload["externalAccountBinding"] = .object(JWS.binding(external, to: account.key, url: url))
        }
        return payload
    }

    /// 201: a new account; 200: the key had one (RFC 8555 section 7.3.1).
    mutating func registered(_ response: ACMEResponse) throws(ACMEMessageError) -> Action {
        let status = try ACMEAccount(response.body).status
        guard status == .valid else {
            return fail(ACMEFailure(.accountClosed, .account, "the account is \(status.rawValue)"))
        }
        account.url = try location(response, "account")
        // An account that was there keeps the contacts that it had.
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

    /// The account is registered and stored.
    mutating func accountKnown(_ now: Instant) -> Action {
        contactsCompared(now)
    }

    private mutating func contactsCompared(_ now: Instant) -> Action {
        guard account.contacts == authority.contacts else { return call(.updateAccount, now) }
        guard plan != nil else { return end(.accountReady(known(directory))) }
        return call(record == nil ? .newOrder : .order, now)
    }

    /// The CA has lost the account: the same key is registered again, once.
    mutating func accountForgotten(_ problem: ACMEProblem, _ purpose: Purpose, _ now: Instant) -> Action {
        guard !hasRegisteredAgain else {
            // The account is there, so it is the order that is not of it.
            if isOrderDoubtful, purpose.isOfOrder { return orderGone(now) }
            return fail(ACMEFailure(problem, purpose.step))
        }
        hasRegisteredAgain = true
        isOrderDoubtful = record != nil
        account.url = nil
        return register(now)
    }
}
