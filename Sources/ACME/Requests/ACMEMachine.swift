package import NIOCore

/// A state machine that exchanges requests with a CA: ``OrderMachine`` and ``RenewalInfoMachine``. What its driver has
/// to perform for the exchange itself is the same for both; see ``ACMEExchange``.
package protocol ACMEMachine: ~Copyable {
    associatedtype Action: ACMEAction

    /// The CA's directory, once it is known.
    var directory: ACMEDirectory? { get }
    /// The difference to the CA's clock, or `nil` until the CA has responded.
    var clock: ClockSkew? { get }

    mutating func start(now: Instant) -> Action
    mutating func received(_ response: ACMEResponse, now: Instant) -> Action
    mutating func requestFailed(_ reason: String, _ kind: TransportFailure, now: Instant) -> Action
    mutating func waited(now: Instant) -> Action
}

package protocol ACMEAction: Sendable {
    /// The action as a part of the exchange, or `nil` if it is another one.
    var exchange: ACMEExchange? { get }
}

package enum ACMEExchange: Sendable {
    /// Send the request. Next: ``ACMEMachine/received(_:now:)`` or ``ACMEMachine/requestFailed(_:_:now:)``.
    case send(ACMERequest)
    /// Wait until the deadline. Next: ``ACMEMachine/waited(now:)``, not earlier.
    case wait(until: NIODeadline)
}
