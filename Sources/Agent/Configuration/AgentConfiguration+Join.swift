import Formats
import HopProtocol
import Settings

/// The contents of a join string, as types of the agent's configuration.
struct AgentJoin: Sendable {
    var gateways: [HostPort]
    /// The trust in the gateway's certificate, or `nil` for the system's roots.
    var trust: AgentTrust?
    var token: AgentToken

    /// Parses a join string. It holds a secret, so no error repeats any part of the text.
    static func parse(_ text: String) throws(FormatError) -> AgentJoin {
        let join: JoinString
        do throws(JoinStringError) {
            join = try JoinString(text)
        } catch {
            throw FormatError(error.what, error.remedy)
        }
        var gateways: [HostPort] = []
        for address in join.gateways {
            let gateway = try HostPort.parse(
                address,
                defaultPort: nil,
                remedy: "Create another join string, with --gateway HOST:PORT."
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
    /// The agent's token, and the join string that contained it, if one was given.
    struct Identity {
        var token: AgentToken?
        var join: Setting<AgentJoin>?
        /// Whether a join string was given, valid or not.
        var isJoined = false
    }

    /// Reads the token or the join string. Exactly one of them must be given.
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
            let problem = FormatError(
                "is given (\(join.origin)), and so is token (\(token.origin))",
                "Keep one of the two: a join string contains a token."
            )
            root.report("join", join.origin, problem)
            return Identity(isJoined: true)
        case (nil, nil):
            root.reportMissing("token", or: "join", which: "brings gateways and trust with it")
            return Identity()
        }
    }
}
