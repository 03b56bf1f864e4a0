import FuzzDriver
import HopProtocol
import NIOCore

/// The decoded content of stream 0.
private struct Control: Equatable {
    var messages: [ControlMessage] = []
    var failure: HopError?
    var isComplete = false

    init(_ pieces: [ByteBuffer]) {
        var codec = ControlCodec()
        do throws(HopError) {
            for piece in pieces {
                codec.feed(piece)
                while let message = try codec.next() { messages.append(message) }
            }
            isComplete = codec.isBetweenMessages
        } catch {
            failure = error
            do throws(HopError) {
                _ = try codec.next()
                preconditionFailure("an error is not final")
            } catch { precondition(error == failure, "an error became another one") }
        }
    }
}

/// Checks that every split yields the same messages, and that their encoding yields them again.
func checkControl(_ bytes: ByteBuffer, _ seed: UInt8) {
    let control = Control([bytes])
    for split in Splits.all(of: bytes.readableBytes, seed: seed) {
        let pieces = split.compactMap { bytes.getSlice(at: $0.lowerBound, length: $0.count) }
        precondition(Control(pieces) == control, "the result depends on the split")
    }
    guard let again = encoded(control.messages) else { return }
    // The encoding names defaults, and writes out a number such as 1e19.
    precondition(again.readableBytes <= bytes.readableBytes + 256 * control.messages.count, "more out than in")
    let controlAgain = Control([again])
    precondition(controlAgain.failure == nil && controlAgain.isComplete, "what was encoded cannot be decoded")
    precondition(controlAgain.messages == control.messages, "encoding changed a message")
    // Equal texts need not be equal bytes.
    precondition(encoded(controlAgain.messages) == again, "encoding changed the bytes")
}

/// Returns the encoding, or `nil` if a message exceeded the limit because of its defaults.
private func encoded(_ messages: [ControlMessage]) -> ByteBuffer? {
    var buffer = ByteBuffer()
    do throws(HopError) {
        for message in messages { buffer.writeImmutableBuffer(try ControlCodec.encode(message)) }
    } catch {
        precondition(error.code == .tooLarge, "what was decoded cannot be encoded: \(error)")
        return nil
    }
    return buffer
}
