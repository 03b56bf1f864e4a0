extension OrderMachine {
    /// Fetches every authorization of the order, one after the other.
    mutating func fetchAuthorizations(_ order: ACMEOrder, _ now: Instant) -> Action {
        authorizations = order.authorizations.map { Authorization(url: $0) }
        polls = 0
        guard !authorizations.isEmpty else { return invalidWithoutReason() }
        return call(.authorization(0), now)
    }

    /// Handles one authorization. The first response for it selects a challenge; later ones report the outcome.
    mutating func handleAuthorization(
        _ index: Int,
        _ response: ACMEResponse,
        _ now: Instant
    ) throws(ACMEMessageError) -> Action {
        let authorization = try ACMEAuthorization(response.body, from: authority.directory)
        let name = try checkedName(authorization)
        recordRetryAfter(response, now)
        switch authorization.status {
        case .valid: authorizations[index].isOpen = false
        case .pending:
            let isFirst = authorizations[index].name == nil
            authorizations[index].name = name
            if order?.status == .invalid { break }
            if let failure = isFirst
                ? selectChallenge(index, name, authorization) : failureOfPending(index, name, authorization)
            {
                return fail(failure)
            }
        case .invalid, .deactivated, .expired, .revoked:
            if mayOrderBeGone, presentedHere.isEmpty { return replaceOrder(now) }
            return fail(Self.failure(of: authorization, name))
        }
        if let next = authorizations.indices.first(where: { $0 > index && authorizations[$0].isOpen }) {
            return call(.authorization(next), now)
        }
        return authorizationsFetched(now)
    }

    /// Continues after every authorization was fetched.
    private mutating func authorizationsFetched(_ now: Instant) -> Action {
        if order?.status == .invalid { return invalidWithoutReason() }
        guard let first = authorizations.firstIndex(where: \.isOpen) else {
            isAuthorized = true
            polls = 0
            retryAfter = nil
            // The last known state of the order is older than its authorizations.
            return cleanUp(.fetchOrder) ?? call(.order, now)
        }
        // After the account was lost, all authorizations are fetched again while the responses to their challenges are
        // still in place.
        let tasks = authorizations.compactMap(\.task)
        guard presentedHere.isSuperset(of: tasks) else { return storeTasks(tasks) }
        return authorizations.contains(where: \.isUnstarted)
            ? startChallenges(from: 0, now) : poll(.authorization(first), now)
    }

    /// Stores the tasks that are about to be presented, unless a predecessor stored the same ones.
    private mutating func storeTasks(_ tasks: [ChallengeTask]) -> Action {
        presented += tasks.filter { !presented.contains($0) }
        var record = required(record)
        guard record.tasks != presented else { return present(tasks) }
        record.tasks = presented
        self.record = record
        state = .storingTasks(tasks)
        return .storeOrder(record)
    }

    mutating func present(_ tasks: [ChallengeTask]) -> Action {
        presentedHere.formUnion(tasks)
        state = .presenting
        retryAfter = nil
        return .present(tasks)
    }

    /// Asks the CA to validate the next challenge that was not started, from this index on (RFC 8555 §7.5.1).
    mutating func startChallenges(from start: Int, _ now: Instant) -> Action {
        if let index = authorizations.indices.first(where: { $0 >= start && authorizations[$0].isUnstarted }) {
            authorizations[index].isUnstarted = false
            return call(.challenge(index), now)
        }
        polls = 0
        return poll(.authorization(required(authorizations.firstIndex(where: \.isOpen))), now)
    }

    // MARK: One authorization

    /// Checks that the authorization is for a name of the order. No challenge of another name is responded to.
    private func checkedName(_ authorization: ACMEAuthorization) throws(ACMEMessageError) -> CertificateName {
        guard let name = authorization.identifier.name else {
            throw ACMEMessageError("authorization.identifier", "is not a name: \(authorization.identifier)")
        }
        let wildcard = CertificateName("*.\(name)")
        let isOrdered = required(plan).names.contains { $0 == name || $0 == wildcard }
        guard isOrdered else {
            throw ACMEMessageError("authorization.identifier", "is a name that was not ordered: \(name)")
        }
        return name
    }

    /// Selects the most preferred challenge that is allowed. One that is already being processed takes precedence.
    private mutating func selectChallenge(
        _ index: Int,
        _ name: CertificateName,
        _ authorization: ACMEAuthorization
    ) -> ACMEFailure? {
        let plan = required(plan)
        // Some CAs omit the wildcard field, although RFC 8555 §7.1.4 requires it.
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

    /// Returns the failure of an authorization that is still pending because its challenge failed or was never started,
    /// or `nil` if its outcome is still open.
    private func failureOfPending(_ index: Int, _ name: CertificateName, _ authorization: ACMEAuthorization)
        -> ACMEFailure?
    {
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
