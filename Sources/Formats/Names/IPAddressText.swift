import Glibc

/// The text form of IP addresses, as `inet_pton` reads and `inet_ntop` writes it: IPv4 as four decimal numbers, IPv6
/// without brackets and without a zone.
package enum IPAddressText {
    package static func isIPv4(_ text: String) -> Bool {
        var address = in_addr()
        return read(text, AF_INET, &address)
    }

    package static func isIPv6(_ text: String) -> Bool {
        var address = in6_addr()
        return read(text, AF_INET6, &address)
    }

    /// The spelling of an IPv6 address that RFC 5952 recommends, in which equal addresses are equal texts.
    ///
    /// - Returns: `nil` if the text is not an IPv6 address.
    package static func canonicalIPv6(_ text: String) -> String? {
        var address = in6_addr()
        guard read(text, AF_INET6, &address) else { return nil }
        return withUnsafeBytes(of: &address) { self.text(of: $0) }
    }

    /// The 4 or 16 bytes of an address in network order, or `nil` if the text is not an address.
    package static func bytes(_ text: String) -> [UInt8]? {
        var four = in_addr()
        if read(text, AF_INET, &four) { return withUnsafeBytes(of: &four) { Array($0) } }
        var six = in6_addr()
        if read(text, AF_INET6, &six) { return withUnsafeBytes(of: &six) { Array($0) } }
        return nil
    }

    /// The canonical text of an address.
    ///
    /// - Parameter bytes: 4 or 16 bytes in network order.
    package static func text(of bytes: [UInt8]) -> String {
        bytes.withUnsafeBytes { text(of: $0) }
    }

    private static func text(of bytes: UnsafeRawBufferPointer) -> String {
        precondition(bytes.count == 4 || bytes.count == 16, "an IP address has 4 or 16 bytes")
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
            let family = bytes.count == 4 ? AF_INET : AF_INET6
            guard let start = buffer.baseAddress,
                inet_ntop(family, bytes.baseAddress, start, socklen_t(INET6_ADDRSTRLEN)) != nil
            else { preconditionFailure("every IP address has a text form") }
            return String(cString: start)
        }
    }

    private static func read(_ text: String, _ family: Int32, _ address: UnsafeMutableRawPointer) -> Bool {
        // A C string ends at the first NUL: text after it would be ignored.
        !text.utf8.contains(0) && inet_pton(family, text, address) == 1
    }
}
