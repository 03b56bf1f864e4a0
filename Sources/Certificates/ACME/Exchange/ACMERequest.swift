/// A request to be sent, by whoever does the sending. Redirects are not followed: an answer that is one is an error.
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
    /// Value of `Accept`.
    package let accept: String
    /// Sent as ``jose``. Empty unless the method is POST.
    package let body: [UInt8]

    /// Value of `Content-Type`; nil if there is no body.
    package var contentType: String? { method == .post ? Self.jose : nil }
}
