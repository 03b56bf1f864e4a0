/// What a CA says of an account (RFC 8555 section 7.1.2).
package struct ACMEAccount: Equatable, Sendable {
    package enum Status: String, Sendable {
        case valid, deactivated, revoked
    }

    package let status: Status

    package init(_ bytes: [UInt8]) throws(ACMEMessageError) {
        status = try DocumentReader(bytes, "account").choice("status")
    }
}
