import ACME
import NIOCore
import Outbound

/// The driver of one ``ACME/RenewalInfoMachine``. Nothing is signed or stored, so no lease is checked.
struct RenewalInfoRequest: Sendable {
    enum Outcome: Sendable {
        /// The renewal information, or `nil` if the CA offers none. `pause` is the time in seconds until the next
        /// request.
        case completed(ACMERenewalInfo?, pause: Int64)
        case failed(ACMEFailure)
        case interrupted
    }

    let authority: ACMEAuthority
    let trust: OutboundTrust
    let transport: any ACMETransport
    let directories: ACMEDirectoryCache

    func run(_ renewalID: String) async -> Outcome {
        var machine = RenewalInfoMachine(
            directoryURL: authority.directory,
            directory: directories.directory(of: authority.id),
            renewalID: renewalID,
            random: { UInt64.random(in: .min ... .max) }
        )
        var hasAnswered = false
        var action = machine.start(now: .now)
        while !Task.isCancelled {
            switch action {
            case .send(let request):
                do throws(ACMETransportError) {
                    let response = try await transport.send(request, trust: trust)
                    hasAnswered = true
                    action = machine.received(response, now: .now)
                } catch {
                    action = machine.requestFailed("\(error)", error.failure, now: .now)
                }
            case .wait(let until):
                guard (try? await OrderDriver.sleep(until: until)) != nil else { return .interrupted }
                action = machine.waited(now: .now)
            case .completed(let info, let pause):
                directories.update(
                    authority.id,
                    directory: machine.directory,
                    clock: machine.clock,
                    hasAnswered: hasAnswered
                )
                return .completed(info, pause: pause)
            case .failed(let failure):
                directories.removeDirectory(of: authority.id)
                return .failed(failure)
            }
        }
        return .interrupted
    }
}
