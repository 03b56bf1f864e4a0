import Formats

extension ACMEFailure {
    /// A refusal by the CA.
    ///
    /// - Parameters:
    ///   - identifier: which name it is about, if the problem does not say it.
    ///   - retry: when it may be tried again, if the CA said it.
    init(_ problem: ACMEProblem, _ step: Step, identifier: String? = nil, retry: Retry? = nil) {
        // Of many reasons the first one that is about a name; the others are mostly the same.
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
        // Only what the standards name: a CA cannot choose ours.
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
            .noUsableChallenge, .presentationFailed, .termsNotAgreed, .profileNotOffered:
            false
        default: true
        }
    }
}
