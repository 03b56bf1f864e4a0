package import NIOCore
package import Outbound

/// Asks a CA for its directory, and registers or updates our account there: all that can be tried without an order.
package struct AccountInquiry: Sendable {
    private let authority: ACMEAuthority
    private let trust: OutboundTrust
    private let transport: any AuthorityTransport
    private let records: IssuingRecords

    package enum Outcome: Sendable {
        case ready(ACMEDirectory, account: String)
        case failed(ACMEFailure)
        case trouble(IssuingTrouble)
    }

    package init(
        _ authority: ACMEAuthority,
        trust: OutboundTrust,
        transport: any AuthorityTransport,
        records: IssuingRecords
    ) {
        self.authority = authority
        self.trust = trust
        self.transport = transport
        self.records = records
    }

    /// - Parameter patience: a CA that cannot be reached by then has failed; the machine alone would try for longer.
    package func run(patience: TimeAmount) async -> Outcome {
        let end = NIODeadline.now() + patience
        let account: AccountRecord
        do throws(IssuingTrouble) {
            account = try await records.account(at: authority.directory)
        } catch {
            return .trouble(error)
        }
        var machine = OrderMachine(accountOnly: authority, account: account, random: { .random(in: .min ... .max) })
        var lastFault: String?
        var action = machine.start(now: .now)
        while true {
            switch action {
            case .send(let request):
                do throws(AuthorityUnreachable) {
                    action = machine.received(try await transport.send(request, trust: trust), now: .now)
                } catch {
                    lastFault = error.description
                    action = machine.requestFailed(error.description, now: .now)
                }
            case .wait(let until):
                guard until < end, (try? await OrderDriver.sleep(until: until)) != nil else {
                    return .failed(ACMEFailure(.unavailable, .directory, lastFault ?? "the CA asks to be asked later"))
                }
                action = machine.waited(now: .now)
            case .storeAccount(let record):
                do throws(IssuingTrouble) {
                    try await records.put(record)
                } catch {
                    return .trouble(error)
                }
                action = machine.stored(now: .now)
            case .accountReady(let directory): return .ready(directory, account: machine.account.url?.text ?? "?")
            case .failed(let failure): return .failed(failure)
            case .storeOrder, .present, .cleanUp, .issued: preconditionFailure("no order was asked for")
            }
        }
    }
}
