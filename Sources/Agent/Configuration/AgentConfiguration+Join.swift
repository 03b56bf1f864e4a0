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

/// A file with the token or the join string, which is read again while the agent runs.
package struct IdentityFile: Sendable, Equatable {
    /// The key of the setting that names the file: `token_file` or `join_file`.
    package var key: String
    package var path: String
    /// Whether the gateways are those of the join string.
    package var definesGateways: Bool
    /// Whether the trust is that of the join string.
    package var definesTrust: Bool

    package init(key: String, path: String, definesGateways: Bool, definesTrust: Bool) {
        self.key = key
        self.path = path
        self.definesGateways = definesGateways
        self.definesTrust = definesTrust
    }
}

extension AgentConfiguration {
    /// Reads ``identityFile`` again.
    ///
    /// - Returns: This configuration with the token of the file, and with the gateways and the trust that it defines.
    /// - Throws: The problems of the file, without any part of its contents.
    func rereading() throws(SettingsError) -> AgentConfiguration {
        guard let identityFile else { return self }
        let flags = [identityFile.key: identityFile.path]
        let reader = SettingsReader(prefix: "HOPAGENT", file: nil, environment: [:], flags: flags)
        reader.readsOnlyRegularFiles = true
        let identity = Self.readIdentity(reader.root)
        try reader.requireNoProblems()
        guard let token = identity.token else { preconditionFailure("a token that is missing is a problem") }
        var result = self
        result.token = token
        guard let join = identity.join?.value else { return result }
        if identityFile.definesGateways { result.gateways = join.gateways }
        if identityFile.definesTrust { result.trust = join.trust ?? .system }
        return result
    }

    /// The agent's token, and the join string that contained it, if one was given.
    struct Identity {
        var token: AgentToken?
        /// The origin of the token, or of the join string that contained it.
        var origin = SettingOrigin.fallback
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
            return Identity(token: token.value, origin: token.origin)
        case (nil, let join?):
            let setting = join.value.map { Setting($0, join.origin) }
            return Identity(token: setting?.value.token, origin: join.origin, join: setting, isJoined: true)
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
