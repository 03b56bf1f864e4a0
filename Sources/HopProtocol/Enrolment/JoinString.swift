import Formats
import FoundationEssentials

/// The addresses, the trust and the token that an agent needs to attach, as one word to copy: `hgj_` and the base64url
/// of a JSON object:
///
/// ```
/// {"v":1,"g":["gateway.example.com:443"],"p":"<base64url of 32 bytes>","t":"hgt_<id>.<secret>"}
/// ```
///
/// `g` has 1 to 16 addresses. `p` is the SHA-256 of a certificate of the gateway's chain, as an agent pins it; without
/// it the system's roots are trusted. Unknown fields are ignored; another `v` is not read at all.
///
/// It is as secret as the token in it: interpolation, `dump` and reflection show the token's id alone. The whole is in
/// ``text``.
package struct JoinString: Sendable, Equatable {
    package static let prefix = "hgj_"
    static let version = 1
    /// The most characters of a join string.
    package static let sizeLimit = 8_192
    package static let gatewayLimit = 16
    /// The most characters of one address: a name of 253 and a port.
    static let addressLimit = 260

    /// The addresses as `HOST:PORT`. Only visible ASCII is checked here; the dialer checks the rest.
    package let gateways: [String]
    /// The SHA-256 of a certificate, or `nil` to trust the system's roots.
    package let pin: [UInt8]?
    /// The token, `hgt_<id>.<secret>`.
    package let token: String

    /// Creates a join string.
    ///
    /// - Precondition: The values are within the limits, and the token is of the form `hgt_<id>.<secret>`.
    package init(gateways: [String], pin: [UInt8]?, token: String) {
        precondition(Self.areGateways(gateways) && pin?.count ?? 32 == 32 && Self.tokenID(token) != nil)
        self.gateways = gateways
        self.pin = pin
        self.token = token
    }

    /// The public part of the token.
    package var tokenID: String { Self.tokenID(token) ?? "" }

    /// The whole join string, to be copied.
    package var text: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let form = Form(v: Self.version, g: gateways, p: pin.map { Base64URL.encode($0) }, t: token)
        guard let json = try? encoder.encode(form) else { preconditionFailure("numbers and texts can be written") }
        return Self.prefix + Base64URL.encode(json)
    }

    private struct Form: Codable {
        var v: Int
        var g: [String]
        var p: String?
        var t: String
    }

    private struct Version: Codable {
        var v: Int
    }
}

// MARK: Reading

/// The reason for which a text is no join string. It repeats nothing of the text.
package struct JoinStringError: Error, Equatable, Sendable {
    package let what: String
    package let remedy: String
}

extension JoinString {
    private static let copyAgain =
        "Copy the whole word that \"hopgate token create\" printed, from hgj_ to its end, on one line."

    /// Reads a join string. Blanks and line breaks around it are ignored.
    ///
    /// - Throws: `JoinStringError` with a remedy for the operator.
    package init(_ text: String) throws(JoinStringError) {
        var rest = Substring(text).utf8[...]
        while let first = rest.first, Self.isBlank(first) { rest.removeFirst() }
        while let last = rest.last, Self.isBlank(last) { rest.removeLast() }
        guard rest.starts(with: Self.prefix.utf8) else {
            let isToken = rest.starts(with: "hgt_".utf8)
            throw JoinStringError(
                what: isToken ? "is a token, not a join string" : "does not begin with \"hgj_\"",
                remedy: isToken ? "Give it as the token, or copy the join string beside it." : Self.copyAgain
            )
        }
        guard rest.count <= Self.sizeLimit else {
            throw JoinStringError(what: "is longer than \(Self.sizeLimit) characters", remedy: Self.copyAgain)
        }
        rest.removeFirst(Self.prefix.utf8.count)
        guard !rest.contains(where: Self.isBlank) else {
            throw JoinStringError(what: "has a blank or line break within", remedy: Self.copyAgain)
        }
        guard rest.allSatisfy(Base64URL.isDigit) else {
            throw JoinStringError(what: "holds characters that no join string has", remedy: Self.copyAgain)
        }
        guard let word = String(rest), let json = Base64URL.decode(word), json.last == UInt8(ascii: "}"),
            let version = try? JSONDecoder().decode(Version.self, from: Data(json))
        else { throw JoinStringError(what: "is cut or damaged", remedy: Self.copyAgain) }
        guard version.v == Self.version else {
            throw JoinStringError(
                what: "is of version \(version.v), and this hopagent reads version \(Self.version)",
                remedy: "Upgrade hopagent."
            )
        }
        guard let form = try? JSONDecoder().decode(Form.self, from: Data(json)), Self.areGateways(form.g),
            Self.tokenID(form.t) != nil
        else { throw JoinStringError(what: "is damaged", remedy: Self.copyAgain) }
        var pin: [UInt8]?
        if let written = form.p {
            guard let bytes = Base64URL.decode(written), bytes.count == 32 else {
                throw JoinStringError(what: "is damaged", remedy: Self.copyAgain)
            }
            pin = bytes
        }
        self.init(gateways: form.g, pin: pin, token: form.t)
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x20, 0x09, 0x0a, 0x0d: true
        default: false
        }
    }

    private static func areGateways(_ gateways: [String]) -> Bool {
        (1...gatewayLimit).contains(gateways.count)
            && gateways.allSatisfy { address in
                (1...addressLimit).contains(address.utf8.count)
                    && address.utf8.allSatisfy { (0x21...0x7e).contains($0) }
            }
    }

    /// Returns the id of a token, or `nil` unless the token is `hgt_<id>.<secret>` in the characters of base64url.
    private static func tokenID(_ token: String) -> String? {
        guard token.utf8.count <= 1_024, token.utf8.starts(with: "hgt_".utf8) else { return nil }
        let parts = token.utf8.dropFirst(4).split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty && $0.allSatisfy(Base64URL.isDigit) }) else {
            return nil
        }
        return String(parts[0])
    }
}

extension JoinString: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "hgj_… (token \(tokenID))" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: ["tokenID": tokenID, "gateways": gateways]) }
}
