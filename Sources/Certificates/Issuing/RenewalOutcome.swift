package import Formats

/// What became of a wish for a new certificate.
package enum RenewalOutcome: Equatable, Sendable {
    case issued(notAfter: UnixTime)
    case failed(ACMEFailure)
    /// The CA allows no attempt before then.
    case held(until: UnixTime, reason: String)
    case trouble(String)
}

/// Those who asked for a new certificate and wait for what becomes of it.
struct PendingRenewals {
    static let limit = 64

    private var waiting: [@Sendable (RenewalOutcome) -> Void] = []
    /// The certificate that was there when they asked; nil until somebody has looked.
    private var replaced: String?

    /// False: too many wait already.
    mutating func add(_ done: @escaping @Sendable (RenewalOutcome) -> Void) -> Bool {
        guard waiting.count < Self.limit else { return false }
        waiting.append(done)
        return true
    }

    /// Whether they still wait for another certificate than this one.
    mutating func isUnfulfilled(by certificate: String?) -> Bool {
        guard !waiting.isEmpty else { return false }
        let certificate = certificate ?? ""
        if replaced == nil { replaced = certificate }
        return replaced == certificate
    }

    mutating func takeAll() -> [@Sendable (RenewalOutcome) -> Void] {
        defer { self = PendingRenewals() }
        return waiting
    }
}
