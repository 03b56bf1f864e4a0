import Formats

/// The response of `/readyz`: every part of the process that must be up, and further details for operators.
package struct Readiness: Sendable {
    /// One part of the process, such as a listener or the certificate.
    package struct Part: Sendable {
        package var name: String
        package var isReady: Bool
        /// A short text for operators, without secrets.
        package var detail: String?
        /// Whether the process is unready without this part. Other parts are informative.
        package var isRequired: Bool

        package init(_ name: String, isReady: Bool, detail: String? = nil, isRequired: Bool = true) {
            self.name = name
            self.isReady = isReady
            self.detail = detail
            self.isRequired = isRequired
        }
    }

    package var parts: [Part]

    package init(_ parts: [Part]) {
        self.parts = parts
    }

    package var isReady: Bool {
        parts.allSatisfy { $0.isReady || !$0.isRequired }
    }

    /// `{"ready":true,"parts":{"https":{"ready":true,"detail":"…"}}}` and a newline.
    var json: [UInt8] {
        var line = LineBuilder()
        line.append(literal: "{\"ready\":")
        line.append(unescaped: isReady ? "true" : "false")
        line.append(literal: ",\"parts\":{")
        for (index, part) in parts.enumerated() {
            if index > 0 { line.append(UInt8(ascii: ",")) }
            line.append(quoted: part.name)
            line.append(literal: ":{\"ready\":")
            line.append(unescaped: part.isReady ? "true" : "false")
            if let detail = part.detail {
                line.append(literal: ",\"detail\":")
                line.append(quoted: detail)
            }
            line.append(UInt8(ascii: "}"))
        }
        line.append(literal: "}}\n")
        return line.bytes
    }
}
