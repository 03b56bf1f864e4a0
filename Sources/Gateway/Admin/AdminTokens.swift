import Certificates
import Crypto
import Files
package import Store
import Synchronization

/// The bearer tokens that open the admin port: those of the cluster's keys, or the one in a configured file.
package final class AdminTokens: Sendable {
    /// How often the file is read again, in milliseconds.
    static let interval: Int32 = 2_000
    package static let shortest = 32
    static let fileLimit = 4_096

    private enum Source: Sendable {
        /// Each key's token opens, so that a rotation locks nobody out.
        case keyring(@Sendable () -> ClusterKeyring)
        case file
    }

    private struct Known {
        /// What the tokens were derived from.
        var keyring: ClusterKeyring?
        var digests: [SHA256Digest] = []
        var problem: String?
    }

    private let source: Source
    private let known = Mutex(Known())
    private let watcher = Mutex<PollingThread?>(nil)

    /// Tokens that are derived from the keys that count at the moment of asking.
    package init(keyring: @escaping @Sendable () -> ClusterKeyring) {
        source = .keyring(keyring)
    }

    /// The token in a file, which is read again every two seconds on a thread of its own.
    ///
    /// - Parameter onProblem: told once of each new problem; the token that was known last stays good.
    /// - Throws: if there is no usable token in it now.
    package init(file: String, onProblem: @escaping @Sendable (String) -> Void) throws(AdminTokenError) {
        source = .file
        let token = try Self.read(file)
        known.withLock { $0.digests = [Self.digest(token)] }
        let thread = PollingThread(name: "admin-token", intervalMilliseconds: Self.interval) { [weak self] in
            self?.readAgain(file, onProblem)
        }
        watcher.withLock { $0 = thread }
    }

    package func stop() {
        watcher.withLock { $0?.stop() }
    }

    /// Whether this is one of them. Takes as long for a wrong one as for a right one.
    package func accepts(_ token: String) -> Bool {
        let digest = Self.digest(token)
        // Digests are compared in constant time, and all of them.
        return digests.reduce(false) { found, good in digest == good || found }
    }

    private var digests: [SHA256Digest] {
        guard case .keyring(let current) = source else { return known.withLock { $0.digests } }
        let keyring = current()
        return known.withLock { known in
            if known.keyring != keyring {
                known.keyring = keyring
                known.digests = keyring.adminTokens.map(Self.digest)
            }
            return known.digests
        }
    }

    private func readAgain(_ file: String, _ onProblem: @Sendable (String) -> Void) {
        do {
            let token = try Self.read(file)
            known.withLock { known in
                known.digests = [Self.digest(token)]
                known.problem = nil
            }
        } catch {
            let isNew = known.withLock { known in
                defer { known.problem = error.description }
                return known.problem != error.description
            }
            if isNew { onProblem(error.description) }
        }
    }

    private static func digest(_ token: String) -> SHA256Digest { SHA256.hash(data: Array(token.utf8)) }

    /// The token in a file, without the blanks around it.
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
        guard token.count >= shortest, token.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw AdminTokenError(
                "admin_token_file: \(path) has to hold one token of at least \(shortest) plain characters; "
                    + "make one with: openssl rand -hex 32"
            )
        }
        return String(decoding: token, as: UTF8.self)
    }
}

/// There is no usable token; the text is for the operator and holds none.
package struct AdminTokenError: Error, Equatable, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}
