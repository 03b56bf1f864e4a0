import Glibc

/// The C strings of a request, valid during one call of ``Transfer/withStrings(_:_:_:)``.
struct TransferStrings {
    let url: UnsafePointer<CChar>?
    let scheme: UnsafePointer<CChar>?
    let method: UnsafePointer<CChar>?
    let userAgent: UnsafePointer<CChar>?
    let authorities: UnsafePointer<CChar>?
    let lines: [UnsafePointer<CChar>?]
}

extension Transfer {
    /// Copies the request's texts to C strings for the duration of `body`.
    ///
    /// - Returns: The result of `body`, or `false` if memory is exhausted.
    func withStrings(_ request: CheckedRequest, _ userAgent: String, _ body: (TransferStrings) -> Bool) -> Bool {
        var copies: [UnsafeMutablePointer<CChar>] = []
        defer { copies.forEach { free($0) } }
        func copy(_ text: String) -> UnsafePointer<CChar>? {
            guard let copied = strdup(text) else { return nil }
            copies.append(copied)
            return UnsafePointer(copied)
        }
        var file: String?
        if case .file(let path) = request.trust { file = path }
        let strings = TransferStrings(
            url: copy(url.text),
            scheme: copy(url.scheme),
            method: copy(request.method.rawValue),
            userAgent: copy(userAgent),
            authorities: file.flatMap(copy),
            lines: request.lines.map(copy)
        )
        return copies.count == request.lines.count + (file == nil ? 4 : 5) && body(strings)
    }

    func withAuthorities(_ trust: OutboundTrust, _ body: (UnsafeBufferPointer<UInt8>?) -> Bool) -> Bool {
        guard case .pem(let bytes) = trust else { return body(nil) }
        return bytes.withUnsafeBufferPointer { body($0) }
    }
}
