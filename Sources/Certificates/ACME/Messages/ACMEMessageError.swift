/// A document that is not what it has to be: where in it, and why.
package struct ACMEMessageError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Such as `order.identifiers[3].value`.
    package let place: String
    package let reason: String

    package init(_ place: String, _ reason: String) {
        self.place = place
        self.reason = reason
    }

    package var description: String { "\(place) \(reason)" }
}
