import COpenSSL
package import NIOCore
import Synchronization

/// The secret of the stateless cookies (RFC 6347 §4.2.1): one for a process, shared by the listeners of all loops,
/// because the answer to a cookie may arrive at another socket than the hello. Thread-safe.
///
/// It changes every ``rotation``. The previous secret is still accepted, so a cookie is valid for between one and two
/// rotations.
package final class DTLSCookieSecret: Sendable {
    /// The time for which one secret makes new cookies.
    package let rotation: TimeAmount

    private struct State {
        /// The current key, followed by the previous one.
        var keys: [UInt8]
        /// The time since which the current key is used, or `nil` before the first use.
        var since: NIODeadline?
    }

    private static let keyBytes = HOP_COOKIE_KEY_BYTES
    private let state: Mutex<State>

    package init(rotation: TimeAmount = .seconds(60)) {
        self.rotation = rotation
        state = Mutex(State(keys: Self.freshKey() + Self.freshKey(), since: nil))
    }

    private static func freshKey() -> [UInt8] {
        let key = [UInt8](unsafeUninitializedCapacity: keyBytes) { buffer, count in
            count = hop_random(buffer.baseAddress!, keyBytes) ? keyBytes : 0
        }
        // A process without randomness must stop: any cookie would be accepted.
        precondition(key.count == keyBytes, "the random generator failed")
        return key
    }

    /// Calls `body` with the current and the previous key, after rotating them if due.
    func withKeys<R>(now: NIODeadline, _ body: (UnsafePointer<UInt8>) -> R) -> R {
        let keys = state.withLock { state -> [UInt8] in
            let since = state.since ?? now
            state.since = since
            let age = now - since
            if age >= rotation {
                // After a long pause the current key is older than a previous key may be.
                let current = age >= rotation + rotation ? Self.freshKey() : Array(state.keys.prefix(Self.keyBytes))
                state.keys = Self.freshKey() + current
                state.since = now
            }
            return state.keys
        }
        return keys.withUnsafeBufferPointer { body($0.baseAddress!) }
    }
}
