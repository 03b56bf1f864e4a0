package import Formats

/// Why there is no certificate: what went wrong, where, whose word it is, what mends it, and when to try again.
package struct ACMEFailure: Error, Equatable, Sendable {
    /// Where on the way it happened.
    package enum Step: String, Sendable {
        case directory, nonce, account, order, authorization, presentation, challenge, finalize, certificate
        case renewalInfo = "renewal info"
    }

    package enum Retry: Equatable, Sendable {
        /// After the next pause of the name's back-off.
        case backOff
        /// Not by itself within a day: a person has to change something first.
        case afterADay
        /// Not before this time of the CA's clock.
        case notBefore(UnixTime)
    }

    package let code: Code
    package let step: Step
    /// The CA's type of the problem, if it named one.
    package let type: String?
    /// The CA's words, or ours; fit to be shown.
    package let detail: String
    /// The name in question, if it is one of several.
    package let identifier: String?
    /// Where the CA tells a person more.
    package let instance: String?
    package let retry: Retry
    /// The order is still good at the CA: its record is kept, and the next attempt goes on with it.
    package var keepsOrder = false

    package init(
        _ code: Code,
        _ step: Step,
        _ detail: String,
        type: String? = nil,
        identifier: String? = nil,
        instance: String? = nil,
        retry: Retry? = nil
    ) {
        self.code = code
        self.step = step
        self.type = type
        self.detail = detail
        self.identifier = identifier
        self.instance = instance
        self.retry = retry ?? (code.needsPerson ? .afterADay : .backOff)
    }

    /// The CA is out of order or has had enough of us: another one may do. Any other failure would repeat itself there.
    package var mayTryNextAuthority: Bool {
        switch code {
        case .unavailable, .serverInternal, .rateLimited: true
        // What has no directory is no CA at the moment.
        default: step == .directory && code != .profileNotOffered
        }
    }

    /// What an operator does about it, in plain words.
    package var remedy: String { code.remedy }
}

extension ACMEFailure: CustomStringConvertible {
    package var description: String {
        let name = identifier.map { "\($0): " } ?? ""
        let source = type.map { " (\($0))" } ?? ""
        let more = instance.map { "; see \($0)" } ?? ""
        return "\(step.rawValue): \(name)\(detail)\(source)\(more); \(remedy)"
    }
}
