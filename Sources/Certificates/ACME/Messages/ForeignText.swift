/// Texts of others, made fit for a log line and a terminal.
enum ForeignText {
    /// Characters that move the cursor, change the direction of writing or are not visible become "?"; what is longer
    /// is cut.
    static func shown(_ text: String, limit: Int = ACMELimits.shownText) -> String {
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
