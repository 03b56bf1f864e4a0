internal import HopProtocol
internal import Settings

/// What a join string says, in the agent's own terms.
struct AgentJoin: Sendable {
    var gateways: [HostPort]
    /// Nil: the system's roots.
    var trust: AgentTrust?
    var token: AgentToken

    /// No complaint repeats any part of the text.
    static func parse(_ text: String) throws(Complaint) -> AgentJoin {
        let join: JoinString
        do throws(JoinStringError) {
            join = try JoinString(text)
        } catch {
            throw Complaint(error.what, error.remedy)
        }
        var gateways: [HostPort] = []
        for address in join.gateways {
            let gateway = try HostPort.parse(
                address,
                defaultPort: nil,
                remedy: "Make another join string, with --gateway HOST:PORT."
            )
            if !gateways.contains(gateway) { gateways.append(gateway) }
        }
        return AgentJoin(
            gateways: gateways,
            trust: join.pin.map { .pin(sha256: $0) },
            token: try AgentToken.parse(join.token)
        )
    }
}

extension AgentConfiguration {
    /// What the agent authenticates with, and the join string that it came in, if it did.
    struct Identity {
        var token: AgentToken?
        var join: Setting<AgentJoin>?
        /// A join string was given, whether it can be used or not.
        var isJoined = false
    }

    /// A token or a join string: one of them has to be given, and not both.
    static func readIdentity(_ root: SettingsScope) -> Identity {
        let token = root.secretIfGiven("token", parse: AgentToken.parse)
        let join = root.secretIfGiven("join", parse: AgentJoin.parse)
        switch (token, join) {
        case (let token?, nil):
            return Identity(token: token.value)
        case (nil, let join?):
            let setting = join.value.map { Setting($0, join.origin) }
            return Identity(token: setting?.value.token, join: setting, isJoined: true)
        case (let token?, let join?):
            let complaint = Complaint(
                "is given (\(join.origin)), and so is token (\(token.origin))",
                "Keep one of the two: a join string has a token in it."
            )
            root.report("join", join.origin, complaint)
            return Identity(isJoined: true)
        case (nil, nil):
            root.reportMissing("token", or: "join", which: "brings gateways and trust with it")
            return Identity()
        }
    }
}
