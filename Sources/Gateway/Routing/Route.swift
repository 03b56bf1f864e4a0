import Formats
package import NIOCore
import Settings

/// A rule of the configuration: requests for this host and path prefix are sent to this service of an agent.
package struct Route: Sendable, Equatable {
    /// An exact host in lower case, or `*.` followed by a name.
    package var host: String
    /// A prefix that begins with `/` and, unless it is `/`, does not end with one. It matches whole segments: `/api`
    /// matches `/api` and `/api/x`, not `/apix`.
    package var pathPrefix: String
    /// The NAME of the token that the agents attach with.
    package var agent: String
    package var service: String
    /// Whether the local service receives the path without the prefix.
    package var stripPrefix: Bool
    /// The timeout of the response's head, or `nil` for `timeouts.response_head`.
    package var timeout: TimeAmount?

    package init(
        host: String,
        pathPrefix: String = "/",
        agent: String,
        service: String,
        stripPrefix: Bool = false,
        timeout: TimeAmount? = nil
    ) {
        self.host = host
        self.pathPrefix = pathPrefix
        self.agent = agent
        self.service = service
        self.stripPrefix = stripPrefix
        self.timeout = timeout
    }
}

extension Route {
    /// Parses a path prefix into the form that routing compares: without a slash at the end. A prefix that could be
    /// interpreted in two ways is an error.
    static func parsePathPrefix(_ text: String) throws(FormatError) -> String {
        let remedy = "Write a plain path such as /api."
        guard text.utf8.first == UInt8(ascii: "/") else {
            throw FormatError("\(quoted(text)) does not begin with \"/\"", remedy)
        }
        guard text.utf8.count <= 1024 else { throw FormatError("is longer than 1024 bytes", remedy) }
        guard text.utf8.allSatisfy({ (0x21...0x7E).contains($0) && !Array("?#%\\*\"<>^`{|}".utf8).contains($0) }) else {
            throw FormatError("\(quoted(text)) holds a character that a prefix cannot have", remedy)
        }
        let segments = text.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        for (index, segment) in segments.enumerated() {
            // A request whose path has such segments is refused, so the prefix would never match.
            let isLast = index == segments.count - 1
            if segment.isEmpty && !isLast { throw FormatError("\(quoted(text)) holds \"//\"", remedy) }
            if segment.elementsEqual(".".utf8) || segment.elementsEqual("..".utf8) {
                throw FormatError("\(quoted(text)) holds a dot segment", remedy)
            }
        }
        return text.utf8.count > 1 && text.hasSuffix("/") ? String(text.dropLast()) : text
    }

    /// Parses `NAME/SERVICE`.
    static func parseTarget(_ text: String) throws(FormatError) -> (agent: String, service: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2 else {
            throw FormatError(
                "\(quoted(text)) is not NAME/SERVICE",
                "Write the token's name and the agent's service, as in demo/web."
            )
        }
        let name = String(parts[0])
        // `hopgate token create` accepts these names only, so an agent with another name could never attach.
        guard (1...63).contains(name.utf8.count), name.utf8.allSatisfy(isTokenNameByte) else {
            throw FormatError(
                "\(quoted(name)) is not a token's name",
                "Use 1 to 63 lower-case letters, digits and \"-\"."
            )
        }
        return (name, try Scalars.name(String(parts[1])))
    }

    private static func isTokenNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x61...0x7A, 0x2D: true
        default: false
        }
    }
}
