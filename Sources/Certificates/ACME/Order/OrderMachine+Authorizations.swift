extension OrderMachine {
    /// Looks at every authorization of the order, one after the other.
    mutating func askForRights(_ order: ACMEOrder, _ now: Instant) -> Action {
        authorizations = order.authorizations.map { Authorization(url: $0) }
        polls = 0
        guard !authorizations.isEmpty else { return invalidWithoutReason() }
        return call(.authorization(0), now)
    }

    /// The answer for one authorization: the first time a challenge is chosen, later the outcome is looked at.
    mutating func authorization(
        _ index: Int,
        _ response: ACMEResponse,
        _ now: Instant
    ) throws(ACMEMessageError) -> Action {
        let authorization = try ACMEAuthorization(response.body, from: authority.directory)
        let name = try checkedName(authorization)
        note(response, now)
        switch authorization.status {
        case .valid: authorizations[index].isOpen = false
        case .pending:
            let isFirst = authorizations[index].name == nil
            authorizations[index].name = name
            if order?.status == .invalid { break }
            if let failure = isFirst ? choose(index, name, authorization) : look(index, name, authorization) {
                return fail(failure)
            }
        case .invalid, .deactivated, .expired, .revoked:
            if isOrderDoubtful, shown.isEmpty { return orderGone(now) }
            return fail(Self.failure(of: authorization, name))
        }
        if let next = authorizations.indices.first(where: { $0 > index && authorizations[$0].isOpen }) {
            return call(.authorization(next), now)
        }
        return rightsSeen(now)
    }

    /// Every authorization was looked at.
    private mutating func rightsSeen(_ now: Instant) -> Action {
        if order?.status == .invalid { return invalidWithoutReason() }
        guard let first = authorizations.firstIndex(where: \.isOpen) else {
            isAuthorized = true
            polls = 0
            asked = nil
            // What is known of the order is older than its authorizations.
            return cleanUp(.lookAtOrder) ?? call(.order, now)
        }
        // After the account was lost all authorizations are looked at anew, while answers to their challenges are in place.
        let tasks = authorizations.compactMap(\.task)
        guard shown.isSuperset(of: tasks) else { return announce(tasks) }
        return authorizations.contains(where: \.isUnstarted)
            ? startChallenges(from: 0, now) : poll(.authorization(first), now)
    }

    /// Stores what is about to be presented, unless a predecessor has.
    private mutating func announce(_ tasks: [ChallengeTask]) -> Action {
        presented += tasks.filter { !presented.contains($0) }
        var record = known(record)
        guard record.tasks != presented else { return present(tasks) }
        record.tasks = presented
        self.record = record
        state = .storingTasks(tasks)
        return .storeOrder(record)
    }

    mutating func present(_ tasks: [ChallengeTask]) -> Action {
        shown.formUnion(tasks)
        state = .presenting
        asked = nil
        return .present(tasks)
    }

    /// Tells the CA to look, for each authorization from this one on whose challenge was not started (RFC 8555 section 7.5.1).
    mutating func startChallenges(from start: Int, _ now: Instant) -> Action {
        if let index = authorizations.indices.first(where: { $0 >= start && authorizations[$0].isUnstarted }) {
            authorizations[index].isUnstarted = false
            return call(.challenge(index), now)
        }
        polls = 0
        return poll(.authorization(known(authorizations.firstIndex(where: \.isOpen))), now)
    }

    // MARK: One authorization

    /// The name has to be one that was ordered: others are not answered for.
    private func checkedName(_ authorization: ACMEAuthorization) throws(ACMEMessageError) -> CertificateName {
        guard let name = authorization.identifier.name else {
            throw ACMEMessageError("authorization.identifier", "is no name: \(authorization.identifier)")
        }
        let wildcard = CertificateName("*.\(name)")
        let isOrdered = known(plan).names.contains { $0 == name || $0 == wildcard }
        guard isOrdered else {
            throw ACMEMessageError("authorization.identifier", "is a name that was not ordered: \(name)")
        }
        return name
    }

    /// Takes the best challenge that may be used; one that is running already is the best.
    private mutating func choose(
        _ index: Int,
        _ name: CertificateName,
        _ authorization: ACMEAuthorization
    ) -> ACMEFailure? {
        let plan = known(plan)
        // Some CAs do not say that it is for a wildcard (RFC 8555 section 7.1.4 wants it).
        let isWildcard = authorization.isWildcard || !plan.names.contains(name)
        let allowed = plan.challenges.filter { kind in
            switch kind {
            case .dns01: if case .address = name { false } else { true }
            case .http01, .tlsALPN01: !isWildcard
            }
        }
        let usable = authorization.challenges.filter { $0.status == .pending || $0.status == .processing }
        let running = usable.first { $0.status == .processing && allowed.contains($0.kind) }
        let best = allowed.lazy.compactMap { kind in usable.first { $0.kind == kind } }.first
        guard let challenge = running ?? best else {
            let subject = isWildcard ? "a wildcard" : "this name"
            let may = allowed.isEmpty ? "none" : allowed.map(\.rawValue).joined(separator: ", ")
            let offered = authorization.offered.isEmpty ? "none" : authorization.offered.joined(separator: ", ")
            return ACMEFailure(
                .noUsableChallenge,
                .authorization,
                "the CA offers \(offered); of what is configured, \(may) can be used for \(subject)",
                identifier: name.description
            )
        }
        authorizations[index].task = ChallengeTask(challenge.kind, name, token: challenge.token, key: account.key)
        authorizations[index].challenge = challenge.url
        authorizations[index].isUnstarted = challenge.status == .pending
        return nil
    }

    /// Still pending: is that so because the challenge failed, or was never started?
    private func look(_ index: Int, _ name: CertificateName, _ authorization: ACMEAuthorization) -> ACMEFailure? {
        let challenge = authorization.challenges.first { $0.url == authorizations[index].challenge }
        if challenge?.status == .invalid { return Self.failure(of: authorization, name) }
        if let refusal = authorizations[index].refusal, challenge?.status != .processing {
            return ACMEFailure(refusal, .challenge, identifier: name.description)
        }
        return nil
    }

    private static func failure(of authorization: ACMEAuthorization, _ name: CertificateName) -> ACMEFailure {
        if let error = authorization.challenges.lazy.compactMap(\.error).first {
            return ACMEFailure(error, .authorization, identifier: name.description)
        }
        let detail = "the authorization to the name is \(authorization.status.rawValue), without a reason"
        return ACMEFailure(.orderInvalid, .authorization, detail, identifier: name.description)
    }

    private mutating func invalidWithoutReason() -> Action {
        fail(ACMEFailure(.orderInvalid, .order, "the order became invalid, without a reason"))
    }
}
