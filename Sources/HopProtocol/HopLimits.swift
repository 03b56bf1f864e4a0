/// The limits of messages on tunnel streams, in bytes. Every length from the network is compared with one of them
/// before anything is kept.
package enum HopLimits {
    /// The limit of a control message, without its length prefix.
    package static let controlMessage = 64 * 1024
    /// The limit of a request or response head: 16 KiB of request line, 64 KiB of fields, and our own part.
    package static let head = 96 * 1024
    /// The limit of a trailer section.
    package static let trailers = 8 * 1024
    /// The limit of ACCEPTED. It carries nothing today; content of a later version is ignored up to this size.
    package static let accepted = 256
    /// The limit of a hop.
    package static let hop = 64
    /// The most fields of one section.
    package static let fields = 256
    /// The limit of method, scheme, service and trace context, each a short word.
    package static let word = 256
}
