package import NIOCore

/// The limits of what a CA may ask of this client. A CA that exceeds them is faulty or hostile.
package enum ACMELimits {
    /// The largest JSON document, in bytes.
    package static let document = 128 << 10
    /// The largest certificate chain, in bytes.
    package static let chain = 256 << 10
    /// The largest number of certificates in a chain.
    package static let chainLength = 10
    /// The largest number of names in one order. Public CAs accept no more.
    package static let names = 100
    /// The largest number of authorizations in one order: one for each name, or two if a wildcard has its own.
    package static let authorizations = 200
    /// The largest number of challenges in one authorization.
    package static let challenges = 32
    /// The largest number of profiles in a directory.
    package static let profiles = 64
    package static let subproblems = 100
    /// The largest number of alternate chains that are downloaded in search of the preferred issuer.
    package static let alternateChains = 8
    /// The longest text of a CA that is displayed, in characters.
    package static let displayText = 1_000
    /// The longest nonce, in characters.
    package static let nonce = 512
    /// The number of unused nonces that are kept. The newest is used first, because nonces expire.
    package static let nonces = 8

    /// The number of times that a request is repeated at once after `badNonce`. Further rejections count as a fault of
    /// the CA.
    package static let nonceRetries = 10
    /// The number of times that a request is repeated after a lost response or a server error. The pauses are 1 s · 2ⁿ
    /// ± 50 %.
    package static let faultRetries = 5
    /// The longest `Retry-After` of a server error that is waited for. A CA that asks for a longer pause has failed.
    package static let longestFaultPause = TimeAmount.minutes(1)
    /// The time in seconds for which a CA that limits the rate is left alone if it sends no `Retry-After`.
    package static let rateLimitPause: Int64 = 3_600
    /// The largest number of requests of one state machine.
    package static let requests = 5_000

    /// The time for one order. A long `Retry-After` extends it.
    package static let orderTime = TimeAmount.minutes(10)
    /// The time after which an order ends, regardless of the CA's `Retry-After`.
    package static let longestOrderTime = TimeAmount.hours(1)
    /// The time that remains for the order after a wait that has extended it.
    package static let timeAfterWait = TimeAmount.minutes(1)
    /// The first and the longest pause between two polls of a pending resource.
    package static let firstPoll = TimeAmount.milliseconds(250)
    package static let lastPoll = TimeAmount.seconds(5)
    /// The shortest wait for a `Retry-After`.
    package static let shortestRetryAfter = TimeAmount.seconds(1)
}
