package import NIOCore

/// What a CA may ask of us. A CA that asks for more is in error, or hostile.
package enum ACMELimits {
    /// Bytes of an answer that is a JSON document.
    package static let document = 128 << 10
    /// Bytes of an answer that is a certificate chain.
    package static let chain = 256 << 10
    /// Certificates of a chain.
    package static let chainLength = 10
    /// Names of one order; public CAs take no more.
    package static let names = 100
    /// Authorizations of one order: one a name, or two where a wildcard has its own.
    package static let authorizations = 200
    /// Challenges of one authorization.
    package static let challenges = 32
    /// Profiles that a directory lists.
    package static let profiles = 64
    package static let subproblems = 100
    /// Other chains that are looked at for the preferred one.
    package static let alternateChains = 8
    /// Characters of a text of the CA's that is shown.
    package static let shownText = 1_000
    /// Characters of a nonce.
    package static let nonce = 512
    /// Nonces that are kept. The newest are used first, because they go stale.
    package static let nonces = 8

    /// A request that is refused for its nonce is sent again at once, this often; then it is a fault.
    package static let nonceRetries = 10
    /// A request that got no answer, or a server error, is sent again after 1 s · 2ⁿ ± 50 %, this often.
    package static let faultRetries = 5
    /// A server that is out of order and asks for a longer pause than this has failed.
    package static let longestFaultPause = TimeAmount.minutes(1)
    /// Requests of one machine, whatever they are.
    package static let requests = 5_000

    /// Time for one order. A later `Retry-After` moves it.
    package static let orderTime = TimeAmount.minutes(10)
    /// The end of an order that nothing moves.
    package static let longestOrderTime = TimeAmount.hours(1)
    /// What is left for the order after the last wait that moved its end.
    package static let timeAfterWait = TimeAmount.minutes(1)
    /// The first and the last pause between two looks at something that is pending.
    package static let firstPoll = TimeAmount.milliseconds(250)
    package static let lastPoll = TimeAmount.seconds(5)
    /// The least that a `Retry-After` makes us wait.
    package static let shortestRetryAfter = TimeAmount.seconds(1)
}
