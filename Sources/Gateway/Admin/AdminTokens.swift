import Certificates
import Crypto
import Files
package import Store
import Synchronization
import Threads

/// The bearer tokens that the admin port accepts: those derived from the cluster's keys, or the one in a configured
/// file.
package final class AdminTokens: Sendable {
    /// The interval in milliseconds at which the file is read again.
    static let readInterval = Duration.seconds(2)
    package static let minimumLength = 32
    static let fileLimit = 4_096

    private enum Source: Sendable {
        /// The tokens of all current keys, so that a key rotation locks no operator out.
        case keyring(@Sendable () -> ClusterKeyring)
        case file(PolledValue<SHA256Digest, AdminTokenError>)
    }

    private let source: Source
    /// The keyring that was read last, and the digests of its tokens.
    private let derived = Mutex<(keyring: ClusterKeyring, digests: [SHA256Digest])?>(nil)

    /// Creates an instance that accepts the tokens of the keyring. The closure is called for each request.
    package init(keyring: @escaping @Sendable () -> ClusterKeyring) {
        source = .keyring(keyring)
    }

    /// Creates an instance that accepts the token in a file. A polling thread reads the file again every two seconds.
    ///
    /// - Parameter onChange: Called with each new problem, while the last valid token stays accepted, and with `nil`
    ///   when the file holds a valid token again.
    /// - Throws: If the file does not hold a valid token now, or if no thread could be started.
    package init(
        file: String,
        onChange: @escaping @Sendable (AdminTokenError?) -> Void
    ) throws(AdminTokenError) {
        let read = { @Sendable () throws(AdminTokenError) in Self.digest(try Self.read(file)) }
        let token = PolledValue(
            try read(),
            name: "admin-token",
            interval: Self.readInterval,
            onChange: onChange,
            read: read
        )
        guard token.start() else { throw AdminTokenError("admin_token_file: \(file): \(ThreadLimit.message)") }
        source = .file(token)
    }

    package func stop() {
        if case .file(let token) = source { token.stop() }
    }

    /// Whether the token is accepted. Takes constant time, so that it reveals nothing about the accepted tokens.
    package func accepts(_ token: String) -> Bool {
        let digest = Self.digest(token)
        // All digests are compared, each in constant time.
        return digests.reduce(false) { found, good in digest == good || found }
    }

    /// The SHA-256 digests of the accepted tokens.
    private var digests: [SHA256Digest] {
        switch source {
        case .file(let token): return [token.value]
        case .keyring(let current):
            let keyring = current()
            return derived.withLock { derived in
                if let derived, derived.keyring == keyring { return derived.digests }
                let digests = keyring.adminTokens.map(Self.digest)
                derived = (keyring, digests)
                return digests
            }
        }
    }

    private static func digest(_ token: String) -> SHA256Digest { SHA256.hash(data: Array(token.utf8)) }

    /// Reads the token in a file, without surrounding whitespace.
    package static func read(_ path: String) throws(AdminTokenError) -> String {
        let bytes: [UInt8]
        do {
            bytes = try ConfiguredFile.read(path, limit: fileLimit)
        } catch {
            throw AdminTokenError("admin_token_file: \(path): \(error.reason)")
        }
        let isBlank: (UInt8) -> Bool = { [0x20, 0x09, 0x0a, 0x0d].contains($0) }
        let start = bytes.drop(while: isBlank)
        let token = start.prefix((start.lastIndex { !isBlank($0) }.map { $0 - start.startIndex + 1 }) ?? 0)
        guard token.count >= minimumLength, token.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw AdminTokenError(
                "admin_token_file: \(path) must hold one token of at least \(minimumLength) printable ASCII characters; "
                    + "create one with: openssl rand -hex 32"
            )
        }
        return String(decoding: token, as: UTF8.self)
    }
}

/// The token file is unusable. The description is addressed to the operator and contains no secret.
package struct AdminTokenError: Error, Equatable, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}
