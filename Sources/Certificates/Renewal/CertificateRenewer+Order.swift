import ACME
import Formats
import NIOCore
import Store

/// Ordering a certificate, and asking for renewal information, under the lease of the certificate.
extension CertificateRenewer {
    // MARK: An order

    /// Orders a certificate from a CA and publishes it, or stores the failure.
    func order(
        _ situation: CertificateSituation,
        _ directory: String,
        _ lease: any StoreLease
    ) async throws(StoreError) {
        updateStatus { $0.isOrdering = true }
        defer { updateStatus { $0.isOrdering = false } }
        guard let authority = shared.settings.authorities.first(where: { $0.authority.id == directory }) else {
            preconditionFailure("a decision refers to a configured CA")
        }
        let directories = shared.settings.directories
        let driver = OrderDriver(
            client: shared.client(of: authority),
            certificate: key,
            presenter: shared.presenter,
            lease: lease,
            isDue: { situation.isDue(authorities: directories, now: $0) },
            onAccepted: {
                self.shared.gates.succeeded(by: self.key, at: directory)
                self.shared.onEvent(.ordering(names: self.names, authority: directory))
            }
        )
        let renewalID = situation.issuer == directory ? situation.facts?.renewalID : nil
        let plan = shared.settings.plan(names, at: authority, replacing: renewalID, after: situation.state)
        let start = NIODeadline.now()
        switch try await driver.run(plan) {
        // The order of the present certificate was not removed when that was published. A new one follows.
        case .issued(let issued) where issued.facts.id == situation.facts?.id:
            try await shared.records.removeOrder(of: key, under: lease)
        case .issued(let issued): try await publish(issued, situation, authority, lease)
        case .failed(let failure): try await recordFailure(failure, situation, directory, start, lease)
        case .notDue: shared.gates.leave(key)
        }
    }

    /// Publishes the certificate, stores the plan of its renewal, and asks for renewal information.
    private func publish(
        _ issued: IssuedCertificate,
        _ situation: CertificateSituation,
        _ authority: RenewalSettings.Authority,
        _ lease: any StoreLease
    ) async throws(StoreError) {
        let directory = authority.authority.id
        let certificate = ServerCertificate(
            documents: issued.documents,
            chain: issued.chain,
            key: issued.key,
            origin: "the certificate of \(directory)"
        )
        // If this fails, the order is kept: the next holder of the lease downloads the certificate and publishes it.
        let version = try await shared.certificates.write(
            certificate,
            as: key,
            origin: "acme",
            authority: directory,
            under: lease
        )
        let facts = issued.facts
        shared.onEvent(.issued(names: names, authority: directory, version: version, notAfter: facts.notAfter))
        completeRequests(.issued(notAfter: facts.notAfter))
        try await shared.records.removeOrder(of: key, under: lease)
        var new = situation
        new.facts = facts
        new.issuer = directory
        new.state = RetryPolicy.succeeded(authority: directory, state: situation.state)
        new.state.renewal = RenewalPolicy.initialPlan(
            facts,
            name: situation.spreadingKey,
            replacing: situation.state.renewal,
            now: shared.directories.serverTime(at: directory)
        )
        try await shared.records.put(new.state, of: key, under: lease)
        // RFC 9773 §4.3.2 recommends to ask soon after the issuance.
        try await fetchRenewalInfo(new, directory, lease)
    }

    /// Stores the failure and the time of the next attempt, unless it concerns the CA as a whole.
    private func recordFailure(
        _ failure: ACMEFailure,
        _ situation: CertificateSituation,
        _ directory: String,
        _ start: NIODeadline,
        _ lease: any StoreLease
    ) async throws(StoreError) {
        let now = shared.directories.serverTime(at: directory)
        let isOfAuthority = shared.gates.failed(failure, by: key, at: directory, since: start)
        var new = situation
        new.state =
            isOfAuthority
            ? RetryPolicy.limited(failure, authority: directory, state: situation.state, now: now)
            : RetryPolicy.failed(
                failure,
                authority: directory,
                state: situation.state,
                settings: shared.settings.fingerprint(names),
                now: now,
                random: UInt64.random(in: .min ... .max)
            )
        new.isRequested = false
        let next = decide(new)
        if !isOfAuthority {
            var until: UnixTime?
            if case .idle(let time) = next { until = time }
            shared.onEvent(.failed(names: names, authority: directory, failure, nextTry: until))
        }
        if !next.isAction { completeRequests(.failed(failure)) }
        if new.state != situation.state { try await shared.records.put(new.state, of: key, under: lease) }
        // An order that was kept for another CA is not removed.
        if !failure.keepsOrder, try await shared.records.order(of: key)?.directory.text == directory {
            try await shared.records.removeOrder(of: key, under: lease)
        }
    }

    // MARK: Renewal information

    /// Asks the CA for its suggested renewal window, and stores it.
    func fetchRenewalInfo(
        _ situation: CertificateSituation,
        _ directory: String,
        _ lease: any StoreLease
    ) async throws(StoreError) {
        guard let facts = situation.facts, let renewalID = facts.renewalID, let plan = situation.renewal,
            let authority = shared.settings.authorities.first(where: { $0.authority.id == directory })
        else { return }
        let outcome = try await shared.client(of: authority).renewalInfo(renewalID)
        let now = shared.directories.serverTime(at: directory)
        var state = situation.state
        switch outcome {
        case .success(let (info, pause)):
            state.renewal = RenewalPolicy.plan(
                facts,
                name: situation.spreadingKey,
                stored: plan,
                info: info,
                pause: pause,
                now: now,
                random: UInt64.random(in: .min ... .max)
            )
        case .failure: state.renewal = RenewalPolicy.planAfterFailure(plan, now: now)
        }
        try await shared.records.put(state, of: key, under: lease)
    }
}
