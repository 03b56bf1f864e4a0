import Formats

extension OrderMachine {
    var orderPayload: [String: JSONValue] {
        let plan = required(plan)
        var payload: [String: JSONValue] = ["identifiers": .array(plan.names.map { ACMEIdentifier($0).json })]
        if let profile = plan.profile { payload["profile"] = .string(profile) }
        if let replaces { payload["replaces"] = .string(replaces) }
        return payload
    }

    private var replaces: String? {
        directory?.renewalInfo == nil || hasDroppedReplaces ? nil : plan?.replaces
    }

    /// Whether the problem is one of those by which CAs reject `replaces`. The order is then repeated without it, since
    /// the certificate matters more (RFC 9773 §5).
    func mayDropReplaces(_ problem: ACMEProblem, _ response: ACMEResponse) -> Bool {
        guard replaces != nil else { return false }
        switch problem.errorName {
        case "alreadyReplaced", "malformed", "unauthorized": return true
        default: return [404, 409].contains(response.status)
        }
    }

    /// Handles a new order: creates the certificate's key, and stores both before any further request.
    mutating func handleNewOrder(_ response: ACMEResponse, _ now: Instant) throws(ACMEMessageError) -> Action {
        let order = try checked(ACMEOrder(response.body, from: authority.directory))
        let url = try location(response, "order")
        let record = OrderRecord(required(plan), order: url, key: LeafKey(), created: requests.serverTime(now))
        recordRetryAfter(response, now)
        self.order = order
        self.record = record
        mayOrderBeGone = false
        isAuthorized = false
        finalizations = 0
        polls = 0
        authorizations = []
        state = .storingOrder
        return .storeOrder(record)
    }

    /// Checks that the order is for the names that were requested.
    func checked(_ order: ACMEOrder) throws(ACMEMessageError) -> ACMEOrder {
        var names: Set<CertificateName> = []
        for (index, identifier) in order.identifiers.enumerated() {
            guard let name = identifier.name else {
                throw ACMEMessageError("order.identifiers[\(index)]", "is not a name: \(identifier)")
            }
            names.insert(name)
        }
        guard names == Set(required(plan).names) else {
            throw ACMEMessageError("order.identifiers", "are other names than were ordered")
        }
        return order
    }

    /// Performs the next step according to the state of the order.
    mutating func advance(_ now: Instant) -> Action {
        let order = required(order)
        switch order.status {
        case .pending:
            return isAuthorized ? poll(.order, now) : fetchAuthorizations(order, now)
        case .ready:
            if let action = cleanUp(.advance) { return action }
            isAuthorized = true
            // A CA that has accepted the signing request may take a moment to update the order.
            if finalizations > polls { return poll(.order, now) }
            finalizations += 1
            polls = 0
            mayOrderBeGone = false
            return call(.finalize, now)
        case .processing: return cleanUp(.advance) ?? poll(.order, now)
        case .valid: return cleanUp(.advance) ?? call(.certificate, now)
        case .invalid:
            if mayOrderBeGone { return replaceOrder(now) }
            if let error = order.error { return fail(ACMEFailure(error, .order)) }
            // One of the authorizations has the reason.
            return fetchAuthorizations(order, now)
        }
    }

    /// Whether the problem means that the order does not exist or belongs to another account.
    func isGone(_ problem: ACMEProblem, _ response: ACMEResponse) -> Bool {
        switch response.status {
        case 404: true
        case 401, 403: problem.errorName == "unauthorized" || problem.errorName == nil
        default: false
        }
    }

    /// Creates a new order, at most once, in place of one of a predecessor or a lost account that is gone or no longer
    /// usable.
    mutating func replaceOrder(_ now: Instant) -> Action {
        mayOrderBeGone = false
        record = nil
        order = nil
        authorizations = []
        retryAfter = nil
        return cleanUp(.newOrder) ?? call(.newOrder, now)
    }
}
