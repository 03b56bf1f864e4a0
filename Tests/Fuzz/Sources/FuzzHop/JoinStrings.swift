import Formats
import HopProtocol

/// Checks that an accepted join string is accepted again from its own text, and that the error of a refused one repeats
/// nothing of it.
///
/// - Parameter isJSON: Whether `bytes` is the content of a join string rather than the whole of it.
func checkJoin(_ bytes: [UInt8], isJSON: Bool) {
    let text = isJSON ? "hgj_" + Base64URL.encode(bytes) : String(decoding: bytes, as: UTF8.self)
    if isJSON { precondition(Base64URL.decode(text.dropFirst(4)) == bytes, "base64url changed the bytes") }
    do throws(JoinStringError) {
        let join = try JoinString(text)
        precondition(join.text.utf8.count <= JoinString.sizeLimit, "longer than the limit")
        do throws(JoinStringError) {
            let again = try JoinString(join.text)
            precondition(again == join && again.text == join.text, "writing changed a join string")
        } catch { preconditionFailure("what was written cannot be read: \(error)") }
        let secret = join.token.drop { $0 != "." }
        precondition(secret.utf8.count < 8 || !"\(join)".contains(secret), "a secret is shown")
    } catch {
        // Shorter ones may be words of the message itself.
        precondition(text.utf8.count < 64 || !"\(error.what)\(error.remedy)".contains(text), "a text is repeated")
    }
}
