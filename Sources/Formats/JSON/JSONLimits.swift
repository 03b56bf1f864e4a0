/// Upper bounds of a JSON text. A text that exceeds one is rejected.
package struct JSONLimits: Sendable {
    /// The number of bytes.
    package var size = 1 << 20
    /// The number of objects and arrays within each other.
    package var depth = 32
    /// The number of values of all kinds.
    package var values = 65_536
    /// The number of characters of one number.
    package var number = 64

    package init() {}
}
