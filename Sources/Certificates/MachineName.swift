import Glibc

enum MachineName {
    /// This machine's name as the kernel knows it.
    static var own: String? {
        var bytes = [UInt8](repeating: 0, count: 256)
        let result = bytes.withUnsafeMutableBytes { buffer in
            gethostname(buffer.assumingMemoryBound(to: CChar.self).baseAddress!, buffer.count - 1)
        }
        return result == 0 ? String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) : nil
    }
}
