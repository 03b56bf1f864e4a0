import Certificates

/// What a validator looks for.
struct Expected: Hashable {
    var kind: ChallengeKind
    var name: CertificateName
    var token: String
    var authorization: String
}

extension Expected {
    init(_ task: ChallengeTask) {
        self.init(kind: task.kind, name: task.name, token: task.token, authorization: task.keyAuthorization)
    }
}
