package import Formats

/// When a CA would like a certificate to be renewed (RFC 9773 section 4.2). A window in the past means at once; a
/// certificate that is revoked, or soon will be, has one.
package struct ACMERenewalInfo: Equatable, Sendable {
    package let start: UnixTime
    /// Behind `start`.
    package let end: UnixTime
    /// Why; only to be shown.
    package let explanation: String?

    package init(_ bytes: [UInt8]) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, "renewalInfo")
        guard let window = try reader.object("suggestedWindow") else {
            throw reader.error("suggestedWindow", "is missing")
        }
        guard let start = try window.time("start") else { throw window.error("start", "is missing") }
        guard let end = try window.time("end") else { throw window.error("end", "is missing") }
        guard start < end else { throw window.error("end", "is not behind the start") }
        self.start = start
        self.end = end
        explanation = try reader.shown("explanationURL")
    }
}
