import Formats
import Settings

/// Checks the parsers of single values: an accepted value is accepted again in its printed form, and an error fits on
/// one line.
func checkScalars(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    let shown = quoted(text)
    checkLine(shown)
    // 80 characters of at most ten bytes each ("\u{e0001}"), quotes, an ellipsis.
    precondition(shown.utf8.count <= 805, "a quotation without an end")

    let durations = Duration.zero ... .milliseconds(Int.max)
    check({ text throws(FormatError) in try Scalars.duration(text, in: durations) }, text, Scalars.format)
    check({ text throws(FormatError) in try Scalars.int(text, in: .min ... .max) }, text) { "\($0)" }
    check({ text throws(FormatError) in try Scalars.size(text, in: 0 ... .max) }, text) { "\($0)B" }
    check(Scalars.bool, text) { "\($0)" }
    check(Scalars.string, text) { $0 }
    check({ text throws(FormatError) in try Scalars.name(text) }, text) { $0 }
    check({ text throws(FormatError) in try HostPort.parse(text, defaultPort: 443) }, text) { "\($0)" }
    check(ListenAddress.parse, text) { "\($0)" }
    check(HostPattern.canonicalText, text) { $0 }
    if let address = IPAddressText.canonicalIPv6(text) {
        precondition(IPAddressText.canonicalIPv6(address) == address, "two spellings of one address")
    }
}

private func check<Value: Equatable>(
    _ parse: (String) throws(FormatError) -> Value,
    _ text: String,
    _ format: (Value) -> String
) {
    do throws(FormatError) {
        let value = try parse(text)
        let written = format(value)
        checkLine(written)
        do throws(FormatError) {
            let again = try parse(written)
            precondition(again == value, "writing changed a value")
        } catch { preconditionFailure("what was written cannot be read: \(error)") }
    } catch {
        checkLine(error.what)
        checkLine(error.remedy)
    }
}
