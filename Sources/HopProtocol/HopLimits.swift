/// The bounds of what is said on tunnel streams. Every length from the network is compared with one of them before
/// anything is kept.
package enum HopLimits {
    /// A control message, without its length prefix.
    package static let controlMessage = 64 * 1024
    /// A request or response head: 16 KiB of request line, 64 KiB of fields, the rest is ours.
    package static let head = 96 * 1024
    /// A trailer section.
    package static let trailers = 8 * 1024
    /// ACCEPTED carries nothing today; what a later version puts there is ignored up to this size.
    package static let accepted = 256
    /// The fields of one section.
    package static let fields = 256
    /// Method, scheme, service, trace context: each a short word.
    package static let word = 256
}
