import Certificates
import Crypto
import Formats
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Observability
import Store

/// Challenges of our own: put where running gateways find those of a CA, and looked for as a CA looks.
extension ACMECheck {
    /// A replica takes up what is new in the store within this time.
    private static let settling = TimeAmount.seconds(6)

    func challenges(at addresses: [String]) async -> [Finding] {
        var findings: [Finding] = []
        // A failed attempt goes on to the next kind: one that works is enough.
        var good: ChallengeKind?
        for kind in acme.challenges where kind != .dns01 {
            // Nobody else can know it: whoever answers it has our store.
            let task = ChallengeTask(kind, name, token: Self.token, key: AccountKey())
            do throws(StoreError) {
                _ = try await store.create(task.storeKey, task.document)
            } catch {
                findings.append(
                    Finding(
                        subject: kind.rawValue,
                        verdict: .bad,
                        words: "a challenge cannot be put into the store: \(error)"
                    )
                )
                continue
            }
            var found: [Finding] = []
            for address in addresses {
                switch kind {
                case .http01: found.append(await http(task, address))
                case .tlsALPN01: found.append(await tls(task, address))
                case .dns01: break
                }
            }
            try? await store.remove(task.storeKey, expecting: nil)
            findings += found.map { finding in good.map { finding.excused(by: $0) } ?? finding }
            if found.allSatisfy({ $0.verdict == .good }) { good = good ?? kind }
        }
        return findings
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
            seconds: Self.patience,
            hostField: name.description
        )
        let answer: Result<OpsProbe.Response, OpsProbeError>
        do {
            answer = .success(try await Self.onThread { () throws(OpsProbeError) in try probe.send() })
        } catch {
            answer = .failure(error)
        }
        switch answer {
        case .success(let found) where found.status == 200 && found.body == task.keyAuthorization:
            return Finding(subject: subject, verdict: .good, words: "\(place) answers challenges")
        case .success(let found):
            let remedy = """
                something else than this gateway answers there, or no gateway with this store runs; let \(name) lead to \
                this gateway alone, over IPv4 and IPv6, and its http_listen be what port \(ports.http) leads to
                """
            return Finding(subject: subject, verdict: .bad, words: "\(place) answers \(found.status): \(remedy)")
        case .failure(let error):
            let remedy = "open the port from the internet and let it lead to http_listen"
            return Finding(subject: subject, verdict: .bad, words: "\(place): \(error); \(remedy)")
        }
    }

    private static func onThread<Value: Sendable, Problem: Error>(
        _ body: @escaping @Sendable () throws(Problem) -> Value
    ) async throws(Problem) -> Value {
        let result = await NIOThreadPool.singleton.detached(body)
        return try result.get()
    }

    // MARK: TLS-ALPN-01

    private func tls(_ task: ChallengeTask, _ address: String) async -> Finding {
        let subject = "tls-alpn-01"
        let place = "port \(ports.https) of \(address)"
        let end = NIODeadline.now() + Self.settling
        var found: Result<String?, any Error>
        repeat {
            do {
                found = .success(try await ALPNProbe.negotiated(address, ports.https, serverName: task.serverName))
                if case .success("acme-tls/1") = found {
                    return Finding(subject: subject, verdict: .good, words: "\(place) answers challenges")
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
            remedy = "no connection (\(error)); open the port from the internet and let it lead to https_listen"
        default:
            remedy = """
                something else than this gateway ends TLS there, or no gateway with this store runs; let the connection \
                through to https_listen, or allow http-01 only (acme.challenge)
                """
        }
        return Finding(subject: subject, verdict: .bad, words: "\(place): \(remedy)")
    }
}

extension ACMECheck.Finding {
    /// Nothing that keeps a CA from issuing, since a kind of challenge before it works.
    fileprivate func excused(by kind: ChallengeKind) -> Self {
        guard verdict == .bad else { return self }
        return Self(subject: subject, verdict: .unclear, words: "\(words); not needed while \(kind.rawValue) works")
    }
}

extension NIOThreadPool {
    fileprivate func detached<Value: Sendable, Problem: Error>(
        _ body: @escaping @Sendable () throws(Problem) -> Value
    ) async -> Result<Value, Problem> {
        await withCheckedContinuation { continuation in
            submit { _ in
                do throws(Problem) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
    }
}

/// A TLS handshake as a validator of TLS-ALPN-01 makes it (RFC 8737 section 3).
private enum ALPNProbe {
    /// The protocol that was agreed on; nil: none.
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
                .connectTimeout(.seconds(Int64(ACMECheck.patience)))
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
        loop.scheduleTask(in: .seconds(Int64(ACMECheck.patience))) { promise.fail(ChannelError.connectTimeout(.zero)) }
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
