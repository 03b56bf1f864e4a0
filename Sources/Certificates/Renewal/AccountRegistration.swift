package import ACME
package import NIOCore
package import Outbound

/// The registration of our account at a CA: fetches the directory, and registers or updates the account. These are all
/// the steps that need no order.
package struct AccountRegistration: Sendable {
    private let authority: ACMEAuthority
    private let trust: OutboundTrust
    private let transport: any ACMETransport
    private let records: RenewalRecords
    private let directories: ACMEDirectoryCache

    package enum Outcome: Sendable {
        case ready(ACMEDirectory, AccountRecord)
        case failed(ACMEFailure)
        case interrupted(IssuanceError)
    }

    package init(
        _ authority: ACMEAuthority,
        trust: OutboundTrust,
        transport: any ACMETransport,
        records: RenewalRecords
    ) {
        self.init(authority, trust: trust, transport: transport, records: records, directories: ACMEDirectoryCache())
    }

    init(
        _ authority: ACMEAuthority,
        trust: OutboundTrust,
        transport: any ACMETransport,
        records: RenewalRecords,
        directories: ACMEDirectoryCache
    ) {
        self.authority = authority
        self.trust = trust
        self.transport = transport
        self.records = records
        self.directories = directories
    }

    /// Performs the registration.
    ///
    /// - Parameters:
    ///   - patience: The time after which a CA that cannot be reached has failed; the state machine alone would retry
    ///     for longer.
    ///   - registersAgain: Whether a known account is registered again, which reveals that a CA has lost it.
    package func run(patience: TimeAmount = .hours(1), registersAgain: Bool = false) async -> Outcome {
        let end = NIODeadline.now() + patience
        var account: AccountRecord
        do throws(IssuanceError) {
            account = try await records.account(at: authority.directory)
        } catch {
            return .interrupted(error)
        }
        if registersAgain { account.url = nil }
        var machine = OrderMachine(
            accountOnly: authority,
            account: account,
            directory: directories.directory(of: authority.id),
            random: { .random(in: .min ... .max) }
        )
        var hasAnswered = false
        var lastError: String?
        var action = machine.start(now: .now)
        while !Task.isCancelled {
            switch action {
            case .send(let request):
                do throws(ACMETransportError) {
                    let response = try await transport.send(request, trust: trust)
                    hasAnswered = true
                    action = machine.received(response, now: .now)
                } catch {
                    lastError = error.description
                    action = machine.requestFailed(error.description, error.failure, now: .now)
                }
            case .wait(let until):
                guard until < end else {
                    let reason = lastError.map { "no answer: \($0)" } ?? "the CA asked for a later retry"
                    return .failed(ACMEFailure(.unavailable, .directory, reason))
                }
                guard (try? await OrderDriver.sleep(until: until)) != nil else {
                    return .interrupted(OrderDriver.shutdown)
                }
                action = machine.waited(now: .now)
            case .storeAccount(let record):
                do throws(IssuanceError) {
                    try await records.put(record)
                } catch {
                    return .interrupted(error)
                }
                action = machine.stored(now: .now)
            case .accountReady(let directory):
                updateCache(machine.directory, machine.clock, hasAnswered)
                return .ready(directory, machine.account)
            case .failed(let failure):
                updateCache(nil, machine.clock, hasAnswered)
                directories.removeDirectory(of: authority.id)
                return .failed(failure)
            case .storeOrder, .present, .cleanUp, .issued: preconditionFailure("no order was asked for")
            }
        }
        return .interrupted(OrderDriver.shutdown)
    }

    private func updateCache(_ directory: ACMEDirectory?, _ clock: ClockSkew, _ hasAnswered: Bool) {
        directories.update(authority.id, directory: directory, clock: clock, hasAnswered: hasAnswered)
    }
}
