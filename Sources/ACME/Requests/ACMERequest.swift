package import Formats

/// A request to a CA, which the owner of a state machine sends. Redirects are not followed; a response that is one is
/// an error.
package struct ACMERequest: Equatable, Sendable {
    package enum Method: String, Sendable {
        case get = "GET"
        case head = "HEAD"
        case post = "POST"
    }

    package static let json = "application/json"
    package static let jose = "application/jose+json"
    package static let chain = "application/pem-certificate-chain"

    package let method: Method
    package let url: ACMEURL
    /// The value of `Accept`.
    package let accept: String
    /// The body, of type ``jose``. Empty unless the method is POST.
    package let body: [UInt8]

    /// The value of `Content-Type`, or `nil` if there is no body.
    package var contentType: String? { method == .post ? Self.jose : nil }
}

/// A response of a CA as it was received.
package struct ACMEResponse: Equatable, Sendable {
    package struct Field: Equatable, Sendable {
        package let name: String
        package let value: String

        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    package let status: Int
    package let fields: [Field]
    package let body: [UInt8]

    package init(status: Int, fields: [Field], body: [UInt8]) {
        self.status = status
        self.fields = fields
        self.body = body
    }

    /// Returns the value of the first field with this name, which is given in lower case.
    package func first(_ name: String) -> String? {
        fields.first { $0.name.lowercased() == name }.map { Self.trimmed($0.value) }
    }

    /// The CA's clock, from the field `Date`.
    package var date: UnixTime? { first("date").flatMap { UnixTime(httpDate: $0) } }

    /// The new nonce, or `nil` if there is none or it is malformed. RFC 8555 §6.5.1 requires to ignore the latter.
    package var nonce: String? {
        guard let nonce = first("replay-nonce"), (1...ACMELimits.nonce).contains(nonce.utf8.count),
            nonce.utf8.allSatisfy(Base64URL.isDigit)
        else { return nil }
        return nonce
    }

    /// The `Retry-After` in seconds, in either form of RFC 9110 §10.2.3. A date is compared with the CA's own clock.
    ///
    /// - Parameter now: The CA's clock, used if the response has no `Date`.
    package func retryAfter(now: UnixTime) -> Int64? {
        guard let text = first("retry-after") else { return nil }
        if let date = UnixTime(httpDate: text) { return max(0, date - (self.date ?? now)) }
        guard (1...12).contains(text.utf8.count),
            text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return Int64(text)
    }

    /// Returns the targets of the `Link` fields with this relation (RFC 8288). Relative targets are returned as they
    /// are.
    package func links(_ relation: String) -> [String] {
        fields.filter { $0.name.lowercased() == "link" }.flatMap { Self.targets($0.value, relation) }
    }

    /// Parses a field such as `<URL>;rel="alternate", <URL>;rel=up`. No CA is known to send parameters with quoted
    /// commas or semicolons; one ends the parsing of its link.
    private static func targets(_ value: String, _ relation: String) -> [String] {
        var targets: [String] = []
        var rest = value[...]
        while let start = rest.firstIndex(of: "<"), let end = rest[start...].firstIndex(of: ">") {
            let target = String(rest[rest.index(after: start)..<end])
            let parameters = rest[rest.index(after: end)...].prefix { $0 != "," }
            rest = rest[parameters.endIndex...]
            let isWanted = parameters.split(separator: ";").contains { parameter in
                let plain = parameter.filter { $0 != " " && $0 != "\t" && $0 != "\"" }
                return plain.lowercased() == "rel=\(relation)"
            }
            if isWanted { targets.append(target) }
        }
        return targets
    }

    private static func trimmed(_ value: String) -> String {
        let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        let start = value.drop(while: isBlank)
        return String(start[..<(start.lastIndex { !isBlank($0) }.map { start.index(after: $0) } ?? start.startIndex)])
    }
}

/// The kind of a request's failure without a valid response.
package enum TransportFailure: Sendable {
    /// A failure that may not recur, such as a lost connection or a timeout. The request is repeated a few times.
    case transient
    /// A failure that would recur at once, such as a server that fails authentication.
    case permanent
    /// The server responded, but not with a valid ACME response: it was too large, or a redirect.
    case invalidResponse
}
