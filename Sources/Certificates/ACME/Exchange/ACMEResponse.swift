package import Formats

/// An answer of a CA as it came.
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

    /// The first field of this name, in any case.
    package func first(_ name: String) -> String? {
        fields.first { $0.name.lowercased() == name }.map { Self.trimmed($0.value) }
    }

    /// The CA's clock.
    package var date: UnixTime? { first("date").flatMap { UnixTime(httpDate: $0) } }

    /// Fit to be sent back (RFC 8555 section 6.5.1: others are ignored).
    package var nonce: String? {
        guard let nonce = first("replay-nonce"), (1...ACMELimits.nonce).contains(nonce.utf8.count),
            nonce.utf8.allSatisfy(Base64URL.isDigit)
        else { return nil }
        return nonce
    }

    /// Seconds until the CA wants to be asked again, in either form of RFC 9110 section 10.2.3. A date is compared with
    /// the CA's own clock.
    ///
    /// - Parameter now: the CA's clock if the answer does not tell it.
    package func retryAfter(now: UnixTime) -> Int64? {
        guard let text = first("retry-after") else { return nil }
        if let date = UnixTime(httpDate: text) { return max(0, date - (self.date ?? now)) }
        guard (1...12).contains(text.utf8.count),
            text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return Int64(text)
    }

    /// Targets of `Link` fields with this relation (RFC 8288); relative ones are not returned.
    package func links(_ relation: String) -> [String] {
        fields.filter { $0.name.lowercased() == "link" }.flatMap { Self.targets($0.value, relation) }
    }

    /// `<URL>;rel="alternate", <URL>;rel=up`. Parameters with commas or semicolons in quotation marks are not known of
    /// any CA; they end the search, they do not mislead it.
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
