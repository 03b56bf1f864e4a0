import TestSupport

/// The certificates of the tests, issued once a process by ``TestAuthority/shared``.
enum TestPKI {
    private static let authority = TestAuthority.shared
    private static let names = ["localhost", "*.wild.test", "127.0.0.1", "::1"]

    /// localhost, *.wild.test, 127.0.0.1, ::1.
    static let server = try! authority.issue(names)
    /// A certificate for second.test alone, with an RSA key.
    static let second = try! authority.issue(["second.test"], key: .rsa2048)
    /// A certificate whose key usage excludes signatures, so that its key cannot sign a key exchange.
    static let withoutSignatures = try! authority.issue(names, signs: false)
    static let expired = try! authority.issue(names, hours: -48...(-24))
    static let future = try! authority.issue(names, hours: 24...48)
    static let intermediate = try! authority.intermediate("Test intermediate")
    /// A leaf below the intermediate; its chain includes the intermediate and the root.
    static let deep = try! intermediate.issue(names, sending: [intermediate, authority])
    /// A certificate with so many names that the flight takes several datagrams.
    static let large = try! authority.issue(["localhost"] + (0..<150).map { "host-number-\($0).large.test" })
}
