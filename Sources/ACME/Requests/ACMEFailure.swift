package import Formats

/// The reason why no certificate was issued: what went wrong, at which step, the remedy, and when to try again.
package struct ACMEFailure: Error, Equatable, Sendable {
    /// The step at which the failure occurred.
    package enum Step: String, Sendable {
        case directory, nonce, account, order, authorization, presentation, challenge, finalize, certificate
        case renewalInfo = "renewal info"
    }

    package enum Retry: Equatable, Sendable {
        /// A retry after the next pause of the name's back-off.
        case backOff
        /// No automatic retry within a day, because the operator has to change something first.
        case afterADay
        /// A retry no earlier than this time by the CA's clock.
        case notBefore(UnixTime)
    }

    package let code: Code
    package let step: Step
    /// The type of the CA's problem document, if there is one.
    package let type: String?
    /// The description, by the CA or by this client, sanitised for display.
    package let detail: String
    /// The name that failed, if the order has several.
    package let identifier: String?
    /// The URL of the CA's further information.
    package let instance: String?
    package let retry: Retry
    /// Whether the order can still be used at the CA. Its record is then kept, and the next attempt continues it.
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
        self.retry = retry ?? (code.needsOperator ? .afterADay : .backOff)
    }

    /// Whether another CA may succeed, because this one is out of order or limits the rate. Other failures would recur
    /// there.
    package var mayTryNextAuthority: Bool {
        switch code {
        case .unavailable, .serverInternal, .rateLimited: true
        // A URL that serves no directory is no CA at the moment.
        default: step == .directory && code != .profileNotOffered
        }
    }

    /// Whether the failure concerns the CA or the account as a whole, so that other names would fail as well.
    package var concernsAuthority: Bool {
        step == .account || mayTryNextAuthority && (code != .rateLimited || identifier == nil)
    }

    /// Returns the failure with the name that a rate limit is about, if its text mentions one: CAs limit certificates
    /// by name, domain and set of names, and do not use the field for it.
    func attributed(to names: [CertificateName]) -> ACMEFailure {
        guard code == .rateLimited, identifier == nil, let first = names.first else { return self }
        let words = detail.lowercased().split { !($0.isASCII && ($0.isLetter || $0.isNumber || "-.*:".contains($0))) }
        let mentioned = names.first { name in
            let text = name.description
            return words.contains { word in
                let word = word.hasSuffix(".") || word.hasSuffix(":") ? word.dropLast() : word
                return word == text || (word.contains(".") && text.hasSuffix(".\(word)"))
            }
        }
        guard let name = mentioned ?? (detail.contains("exact set of") ? first : nil) else { return self }
        return ACMEFailure(
            code,
            step,
            detail,
            type: type,
            identifier: name.description,
            instance: instance,
            retry: retry
        )
    }

    /// The remedy, in words for the operator.
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

extension ACMEFailure {
    /// Creates a failure from a problem document.
    ///
    /// - Parameters:
    ///   - identifier: The name that the request was for, if the problem does not say it.
    ///   - retry: The time of the next attempt, if the CA specified it.
    init(_ problem: ACMEProblem, _ step: Step, identifier: String? = nil, retry: Retry? = nil) {
        // The first subproblem names an identifier; the others usually have the same reason.
        let cause = problem.subproblems.first ?? problem
        let name = cause.identifier ?? problem.identifier
        let more = problem.subproblems.count > 1 ? " (and \(problem.subproblems.count - 1) more)" : ""
        self.init(
            Self.code(cause),
            step,
            cause.detail + more,
            type: cause.type,
            identifier: name?.value ?? identifier,
            instance: problem.instance,
            retry: retry
        )
    }

    private static func code(_ problem: ACMEProblem) -> Code {
        switch problem.errorName {
        // Only the types of the standards: a CA cannot produce a code of this client.
        case let name?:
            Code(rawValue: name).flatMap { $0.isForeign ? $0 : nil } ?? .other
        case nil: .other
        }
    }
}

extension ACMEFailure.Code {
    fileprivate var isForeign: Bool {
        switch self {
        case .other, .unavailable, .badAnswer, .timedOut, .orderInvalid, .accountClosed, .wrongCertificate,
            .noUsableChallenge, .presentationFailed, .profileNotOffered:
            false
        default: true
        }
    }
}
