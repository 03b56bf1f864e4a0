import Glibc
import HopProtocol
import NIOCore
import Observability

/// The things that requests on one event loop share without locks: the cached `Date`, request ids, random numbers and
/// the counters of responses.
///
/// `@unchecked`: confined to ``loop`` but for `init`.
final class LoopResources: @unchecked Sendable {
    let loop: any EventLoop
    private var randomPool = [UInt8](repeating: 0, count: 256)
    private var randomLeft = 0
    private var choice: UInt64 = .random(in: 1 ... .max)
    private var date = HTTPDate()
    private var counters = RequestCounters()

    init(loop: any EventLoop) {
        self.loop = loop
    }

    /// Returns the value of a `Date` field, formatted once a second.
    func dateValue(_ now: NIODeadline) -> String { date.value(now) }

    func count(_ status: Int, method: String, isHTTP10: Bool, in registry: MetricsRegistry) {
        counters.count(status, method: method, isHTTP10: isHTTP10, in: registry)
    }

    /// Returns 128 bits from the kernel; one system call yields 16 ids.
    func makeRequestID() -> RequestID {
        if randomLeft < 16 {
            randomPool.withUnsafeMutableBytes { pool in
                guard getentropy(pool.baseAddress, pool.count) == 0 else { preconditionFailure("no random numbers") }
            }
            randomLeft = randomPool.count
        }
        randomLeft -= 16
        return randomPool.withUnsafeBytes {
            RequestID(rawValue: $0.loadUnaligned(fromByteOffset: randomLeft, as: UInt128.self))
        }
    }

    /// Returns 64 random bits (xorshift) for choices that an attacker gains nothing by predicting, such as load
    /// balancing.
    func nextChoice() -> UInt64 {
        choice ^= choice << 13
        choice ^= choice >> 7
        choice ^= choice << 17
        return choice
    }
}
