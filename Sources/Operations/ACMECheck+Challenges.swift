import ACME
import Certificates
import Formats
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Observability
import Store

/// Checks with challenges of this command: they are written to the store, as those of a CA are, and requested from the
/// running gateways, as a CA requests them.
extension ACMECheck {
    /// The time within which a replica answers a challenge that is new in the store.
    private static let settlingTime = TimeAmount.seconds(6)

    func challenge(_ kind: ChallengeKind, at addresses: [String]) async -> [Finding] {
        // The token is random, so a server that answers it reads this store.
        let task = ChallengeTask(kind, name, token: Self.token, key: AccountKey())
        do throws(StoreError) {
            try await store.write(task.storeKey, .create(task.sealed(with: signing)))
        } catch {
            let message = "a challenge cannot be written to the store: \(error)"
            return [Finding(.bad, kind.rawValue, message)]
        }
        var found: [Finding] = []
        for address in addresses {
            found.append(await kind == .http01 ? http(task, address) : tls(task, address))
        }
        _ = try? await store.write(task.storeKey, .remove(nil))
        return found
    }

    private static var token: String {
        Base64URL.encode((0..<32).map { _ in UInt8.random(in: .min ... .max) })
    }

    // MARK: HTTP-01

    private func http(_ task: ChallengeTask, _ address: String) async -> Finding {
        let subject = "http-01"
        let place = "port \(ports.http) of \(address)"
        let probe = OpsProbe(
            host: address,
            port: ports.http,
            path: task.path,
            seconds: Self.timeout,
            hostField: name.description
        )
        do {
            let found = try await NIOThreadPool.singleton.runIfActive { try probe.send() }
            if found.status == 200, found.body == task.keyAuthorization {
                return Finding(.good, subject, "\(place) answers challenges")
            }
            let remedy = """
                another server than this gateway answers there, or no gateway with this store runs; point \(name) at \
                this gateway only, over IPv4 and IPv6, and forward port \(ports.http) to its http_listen
                """
            return Finding(.bad, subject, "\(place) answers \(found.status): \(remedy)")
        } catch {
            let remedy = "open the port to the internet and forward it to http_listen"
            return Finding(.bad, subject, "\(place): \(error); \(remedy)")
        }
    }

    // MARK: TLS-ALPN-01

    private func tls(_ task: ChallengeTask, _ address: String) async -> Finding {
        let subject = "tls-alpn-01"
        let place = "port \(ports.https) of \(address)"
        let end = NIODeadline.now() + Self.settlingTime
        var found: Result<String?, any Error>
        repeat {
            do {
                found = .success(try await ALPNProbe.negotiated(address, ports.https, serverName: task.serverName))
                if case .success("acme-tls/1") = found {
                    return Finding(.good, subject, "\(place) answers challenges")
                }
            } catch {
                found = .failure(error)
                if error is NIOConnectionError || error is IOError { break }
            }
            try? await Task.sleep(for: .milliseconds(250))
        } while NIODeadline.now() < end && !Task.isCancelled
        let remedy: String
        switch found {
        case .failure(let error) where error is NIOConnectionError || error is IOError:
            remedy =
                "no connection (\(SocketFailure(error))); open the port to the internet and forward it to https_listen"
        default:
            remedy = """
                another server than this gateway terminates TLS there, or no gateway with this store runs; pass the \
                connection through to https_listen, or allow http-01 only (acme.challenge)
                """
        }
        return Finding(.bad, subject, "\(place): \(remedy)")
    }
}

extension ACMECheck.Finding {
    /// Returns the finding with a bad verdict relaxed, since another way works.
    func excused(by way: String) -> Self {
        guard verdict == .bad else { return self }
        return Self(.unclear, subject, "\(message); not needed while \(way) works")
    }
}

/// A TLS handshake like that of a TLS-ALPN-01 validator (RFC 8737 §3).
private enum ALPNProbe {
    /// Connects and returns the protocol that the server selected, or `nil` if it selected none.
    static func negotiated(_ address: String, _ port: Int, serverName: String) async throws -> String? {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateVerification = .none
        configuration.applicationProtocols = ["acme-tls/1"]
        let context = try NIOSSLContext(configuration: configuration)
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        let promise = loop.makePromise(of: String?.self)
        let channel: any Channel
        do {
            channel = try await ClientBootstrap(group: loop)
                .connectTimeout(.seconds(Int64(ACMECheck.timeout)))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let tls = try NIOSSLClientHandler(context: context, serverHostname: serverName)
                        try channel.pipeline.syncOperations.addHandlers([tls, Outcome(promise)])
                    }
                }
                .connect(host: address, port: port).get()
        } catch {
            promise.fail(error)
            throw error
        }
        loop.scheduleTask(in: .seconds(Int64(ACMECheck.timeout))) { promise.fail(ChannelError.connectTimeout(.zero)) }
        defer { channel.close(promise: nil) }
        return try await promise.futureResult.get()
    }

    private final class Outcome: ChannelInboundHandler {
        typealias InboundIn = Any
        private let promise: EventLoopPromise<String?>

        init(_ promise: EventLoopPromise<String?>) { self.promise = promise }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if case .handshakeCompleted(let name)? = event as? TLSUserEvent { promise.succeed(name) }
            context.fireUserInboundEventTriggered(event)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            promise.fail(error)
            context.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) { promise.fail(ChannelError.eof) }
    }
}
