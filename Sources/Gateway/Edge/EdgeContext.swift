import NIOCore
import Synchronization

/// The parts that every public connection uses beside those of its exchanges. Shared by all loops.
final class EdgeContext: Sendable {
    let proxy: ProxyContext
    /// The TLS-ALPN-01 challenges that the HTTPS listener answers.
    let alpnChallenges: ALPNChallenges
    /// The HTTP-01 challenges that both listeners answer, or `nil` if ACME is not in use; their path is then forwarded
    /// like any other.
    let httpChallenges: HTTPChallenges?
    /// The port that plain HTTP is redirected to.
    let httpsPort = Atomic<Int>(443)
    /// The number of open public connections.
    let connections = Atomic<Int>(0)

    init(proxy: ProxyContext, alpnChallenges: ALPNChallenges, httpChallenges: HTTPChallenges?) {
        self.proxy = proxy
        self.alpnChallenges = alpnChallenges
        self.httpChallenges = httpChallenges
    }
}
