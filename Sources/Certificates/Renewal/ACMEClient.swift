package import ACME
import Formats
package import NIOCore
import Outbound
package import Store
import Threads

/// The client of one CA: the driver of its state machines, and the requests that need no order.
package struct ACMEClient: Sendable {
    let authority: ACMEAuthority
    let trust: OutboundTrust
    let transport: any ACMETransport
    let records: RenewalRecords
    let directories: ACMEDirectoryCache

    package init(
        _ authority: RenewalSettings.Authority,
        transport: any ACMETransport,
        records: RenewalRecords,
        directories: ACMEDirectoryCache = ACMEDirectoryCache()
    ) {
        self.authority = authority.authority
        trust = authority.trust
        self.transport = transport
        self.records = records
        self.directories = directories
    }

    var id: String { authority.id }

    /// The CA's directory, if it is known and at most some hours old.
    package var directory: ACMEDirectory? { directories.directory(of: id) }

    // MARK: The loop

    /// Performs the requests and waits of a machine until it returns another action.
    ///
    /// - Parameter check: Called before each request. It throws to end the machine.
    func exchange<Machine: ACMEMachine & ~Copyable>(
        _ machine: inout Machine,
        from first: Machine.Action,
        check: () async throws(StoreError) -> Void = {}
    ) async throws(StoreError) -> Machine.Action {
        var action = first
        while let exchange = action.exchange {
            guard !Task.isCancelled else { throw shutdown }
            switch exchange {
            case .send(let request):
                try await check()
                do throws(ACMETransportError) {
                    let response = try await transport.send(request, trust: trust)
                    action = machine.received(response, now: .now)
                } catch {
                    action = machine.requestFailed("\(error)", error.failure, now: .now)
                }
            case .wait(let until):
                guard (try? await Task.sleep(for: Duration(until - .now()))) != nil else { throw shutdown }
                action = machine.waited(now: .now)
            }
        }
        directories.update(id, directory: machine.directory, clock: machine.clock)
        return action
    }

    var shutdown: StoreError { StoreError(.closed, id, "the gateway is shutting down") }

    // MARK: The account

    /// Fetches the directory, and registers or updates our account. The account is stored.
    ///
    /// - Parameters:
    ///   - limit: The time after which a CA that does not respond has failed.
    ///   - registersAgain: Whether a known account is registered again, which reveals that a CA has lost it.
    package func register(
        within limit: TimeAmount = ACMELimits.orderTime,
        registersAgain: Bool = false
    ) async throws(StoreError) -> Result<AccountRecord, ACMEFailure> {
        var account = try await records.account(at: authority.directory)
        if registersAgain { account.url = nil }
        var machine = OrderMachine(
            accountOnly: authority,
            account: account,
            directory: directory,
            limit: limit,
            random: { .random(in: .min ... .max) }
        )
        var action = machine.start(now: .now)
        while true {
            action = try await exchange(&machine, from: action)
            switch action {
            case .storeAccount(let record):
                try await records.put(record)
                action = machine.stored(now: .now)
            case .accountReady: return .success(machine.account)
            case .failed(let failure):
                directories.removeDirectory(of: id)
                return .failure(failure)
            case .send, .wait, .storeOrder, .present, .cleanUp, .issued: preconditionFailure("no order was asked for")
            }
        }
    }

    // MARK: Renewal information

    /// The renewal information, or `nil` if the CA offers none, and the time in seconds until the next request.
    typealias RenewalInfo = (info: ACMERenewalInfo?, pause: Int64)

    /// Requests the suggested renewal window of a certificate. Nothing is signed or stored, so no lease is checked.
    func renewalInfo(_ renewalID: String) async throws(StoreError) -> Result<RenewalInfo, ACMEFailure> {
        var machine = RenewalInfoMachine(
            directoryURL: authority.directory,
            directory: directory,
            renewalID: renewalID,
            random: { .random(in: .min ... .max) }
        )
        let first = machine.start(now: .now)
        switch try await exchange(&machine, from: first) {
        case .completed(let info, let pause): return .success((info, pause))
        case .failed(let failure):
            directories.removeDirectory(of: id)
            return .failure(failure)
        case .send, .wait: preconditionFailure("the exchange has ended")
        }
    }
}

extension Instant {
    /// Reads the monotonic and the wall clock of this machine.
    package static var now: Instant {
        Instant(uptime: .now(), wall: .now())
    }
}

extension AsyncSignal {
    /// Waits for a signal, for the deadline if there is one, or for the cancellation of the task.
    func wait(until deadline: NIODeadline?) async {
        if let deadline { await wait(atMost: Duration(deadline - .now())) } else { await wait() }
    }
}
