/// The environment variables that Kubernetes sets in every container for each Service of its namespace ("service
/// links").
///
/// A Service called `hopgate` (which the Helm chart creates) becomes HOPGATE_SERVICE_HOST,
/// HOPGATE_PORT=tcp://10.0.0.1:443, HOPGATE_PORT_443_TCP_ADDR and more, and `hopgate-agents` becomes
/// HOPGATE_AGENTS_SERVICE_HOST and so on. They are not settings, so they must not be reported as unknown ones. Every
/// pattern here ends in words in which no setting ends.
enum ServiceLinks {
    static func matches(name: Substring, value: String) -> Bool {
        var words = name.split(separator: "_", omittingEmptySubsequences: false)
        func ends(_ suffix: [Substring]) -> Bool { words.suffix(suffix.count).elementsEqual(suffix) }

        if ends(["SERVICE", "HOST"]) { return true }
        // SERVICE_PORT and, for a named port, SERVICE_PORT_HTTPS.
        if let service = words.indices.dropLast().last(where: { words[$0] == "SERVICE" && words[$0 + 1] == "PORT" }) {
            return service + 2 == words.count || isPort(value)
        }
        // The value distinguishes it from a mistyped HOPGATE_HTTPS_PORT=8443.
        if ends(["PORT"]), isURL(value) { return true }

        // PORT_443_TCP, PORT_443_TCP_PROTO, …
        if let last = words.last, ["PROTO", "PORT", "ADDR"].contains(last) { words.removeLast() }
        guard words.count >= 3, ["TCP", "UDP", "SCTP"].contains(words[words.count - 1]) else { return false }
        return isPort(words[words.count - 2]) && words[words.count - 3] == "PORT"
    }

    private static func isPort(_ text: some StringProtocol) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { (0x30...0x39).contains($0) }
    }

    private static func isURL(_ value: String) -> Bool {
        ["tcp://", "udp://", "sctp://"].contains { value.hasPrefix($0) }
    }
}
