/// Recognises the variables that Kubernetes puts into every container for every Service of its namespace.
///
/// A Service called `hopgate` (what the chart creates) becomes HOPGATE_SERVICE_HOST, HOPGATE_PORT=tcp://10.0.0.1:443,
/// HOPGATE_PORT_443_TCP_ADDR and more, and `hopgate-agents` becomes HOPGATE_AGENTS_SERVICE_HOST and so on. Nobody wrote
/// them as settings, so they must not stop a start as unknown ones. Every pattern here ends in words that no setting
/// of ours ends in.
enum ServiceLinks {
    static func matches(name: Substring, value: String) -> Bool {
        var words = name.split(separator: "_", omittingEmptySubsequences: false)
        func ends(_ suffix: [Substring]) -> Bool { words.suffix(suffix.count).elementsEqual(suffix) }

        if ends(["SERVICE", "HOST"]) { return true }
        // SERVICE_PORT and, for a named port, SERVICE_PORT_HTTPS.
        if let service = words.indices.dropLast().last(where: { words[$0] == "SERVICE" && words[$0 + 1] == "PORT" }) {
            return service + 2 == words.count || isPort(value)
        }
        // Told from a mistyped HOPGATE_HTTPS_PORT=8443 by the value.
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
