import COpenSSL
package import NIOCore
import Synchronization

/// The secret behind the stateless cookies (RFC 6347 §4.2.1): one a process, shared by the listeners of all loops, so
/// that the answer to a cookie may arrive at another socket than the hello.
///
/// It changes every ``rotation``; the one before is still accepted, so a cookie lives between one and two rotations.
package final class DTLSCookieSecret: Sendable {
    /// How long one secret makes new cookies.
    package let rotation: TimeAmount

    private struct State {
        /// The current key, then the previous one.
        var keys: [UInt8]
        /// Nil until the first use.
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
        // A process without randomness must not go on: any cookie would do.
        precondition(key.count == keyBytes, "the random generator failed")
        return key
    }

    /// Calls `body` with the current and the previous key, after rotating them if it is time.
    func withKeys<R>(now: NIODeadline, _ body: (UnsafePointer<UInt8>) -> R) -> R {
        let keys = state.withLock { state -> [UInt8] in
            let since = state.since ?? now
            state.since = since
            let age = now - since
            if age >= rotation {
                // After a long pause the current key is as old as a previous one may not be.
                let current = age >= rotation + rotation ? Self.freshKey() : Array(state.keys.prefix(Self.keyBytes))
                state.keys = Self.freshKey() + current
                state.since = now
            }
            return state.keys
        }
        return keys.withUnsafeBufferPointer { body($0.baseAddress!) }
    }
}
