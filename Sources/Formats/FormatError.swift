/// The error of a parser of one value: the problem and its remedy, without the place and the key of the value, which
/// the caller knows.
package struct FormatError: Error, Sendable, Equatable {
    /// The problem, with the value ``quoted(_:)`` in it: `"a b" is not a host name`.
    package var what: String
    /// The correction, as a sentence: `Write HOST:PORT, as in 192.0.2.1:8443.`
    package var remedy: String

    package init(_ what: String, _ remedy: String) {
        self.what = what
        self.remedy = remedy
    }
}
