/// Sanitising of texts from the network before they are logged or displayed on a terminal.
package enum UntrustedText {
    /// Replaces control, format and unassigned characters with "?", because they could move the cursor, change the
    /// direction of writing or hide text.
    ///
    /// - Parameter limit: The number of characters after which the text is cut off with "…".
    package static func sanitised(_ text: String, limit: Int = ACMELimits.displayText) -> String {
        var result = String.UnicodeScalarView()
        for (count, scalar) in text.unicodeScalars.enumerated() {
            guard count < limit else {
                result.append("…")
                break
            }
            result.append(isVisible(scalar) ? scalar : "?")
        }
        return String(result)
    }

    private static func isVisible(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return (0x20...0x7e).contains(scalar.value) }
        return switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        default: true
        }
    }
}
