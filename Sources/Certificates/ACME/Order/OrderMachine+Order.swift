import Formats

extension OrderMachine {
    var orderPayload: [String: JSONValue] {
        let plan = known(plan)
        var payload: [String: JSONValue] = ["identifiers": .array(plan.names.map { ACMEIdentifier($0).json })]
        if let profile = plan.profile { payload["profile"] = .string(profile) }
        if let replaces { payload["replaces"] = .string(replaces) }
        return payload
    }

    private var replaces: String? {
        directory?.renewalInfo == nil || hasDroppedReplaces ? nil : plan?.replaces
    }

    /// A CA that does not like `replaces` says so in one of these ways; the certificate matters more (RFC 9773
    /// section 5).
    func mayDropReplaces(_ problem: ACMEProblem, _ response: ACMEResponse) -> Bool {
        guard replaces != nil else { return false }
        switch problem.errorName {
        case "alreadyReplaced", "malformed", "unauthorized": return true
        default: return [404, 409].contains(response.status)
        }
    }

    /// A new order: it gets a new key, and is stored with it before anything else is done.
    mutating func ordered(_ response: ACMEResponse, _ now: Instant) throws(ACMEMessageError) -> Action {
        let order = try checked(ACMEOrder(response.body, from: authority.directory))
        let url = try location(response, "order")
        let record = OrderRecord(
            known(plan),
            order: url,
            key: LeafKey(),
            created: exchange.authorityTime(now)
        )
        note(response, now)
        self.order = order
        self.record = record
        isOrderDoubtful = false
        isAuthorized = false
        finalizations = 0
        polls = 0
        authorizations = []
        state = .storingOrder
        return .storeOrder(record)
    }

    /// The order has to be for what was asked.
    func checked(_ order: ACMEOrder) throws(ACMEMessageError) -> ACMEOrder {
        var names: Set<CertificateName> = []
        for (index, identifier) in order.identifiers.enumerated() {
            guard let name = identifier.name else {
                throw ACMEMessageError("order.identifiers[\(index)]", "is no name: \(identifier)")
            }
            names.insert(name)
        }
        guard names == Set(known(plan).names) else {
            throw ACMEMessageError("order.identifiers", "are other names than were ordered")
        }
        return order
    }

    /// Whatever the order needs now.
    mutating func goOn(_ now: Instant) -> Action {
        let order = known(order)
        switch order.status {
        case .pending:
            return isAuthorized ? poll(.order, now) : askForRights(order, now)
        case .ready:
            if let action = cleanUp(.goOn) { return action }
            isAuthorized = true
            // A CA that has taken the request may need a moment until its order says so.
            if finalizations > polls { return poll(.order, now) }
            finalizations += 1
            polls = 0
            isOrderDoubtful = false
            return call(.finalize, now)
        case .processing: return cleanUp(.goOn) ?? poll(.order, now)
        case .valid: return cleanUp(.goOn) ?? call(.certificate, now)
        case .invalid:
            if isOrderDoubtful { return orderGone(now) }
            if let error = order.error { return fail(ACMEFailure(error, .order)) }
            // One of its authorizations knows why.
            return askForRights(order, now)
        }
    }

    /// What a CA says when there is no such order, or when it is of another account.
    func isGone(_ problem: ACMEProblem, _ response: ACMEResponse) -> Bool {
        switch response.status {
        case 404: true
        case 401, 403: problem.errorName == "unauthorized" || problem.errorName == nil
        default: false
        }
    }

    /// An order of a predecessor, or of a lost account, that is no longer there, or no longer good: a new one, once.
    mutating func orderGone(_ now: Instant) -> Action {
        isOrderDoubtful = false
        record = nil
        order = nil
        authorizations = []
        asked = nil
        return cleanUp(.newOrder) ?? call(.newOrder, now)
    }
}
