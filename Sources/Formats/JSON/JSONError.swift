/// The reason why a text is not accepted as JSON.
package struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The offset of the error in bytes.
    package let offset: Int
    package let reason: String

    package var description: String { "byte \(offset): \(reason)" }
}
