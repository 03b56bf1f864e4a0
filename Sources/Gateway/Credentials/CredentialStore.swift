import Certificates
package import Logging
package import NIOCore
import Synchronization

/// The credentials that a running gateway checks agents against.
///
/// Look-ups read an immutable view that is swapped as a whole, from any thread; disks are touched only by the thread
/// that ``watch(onChange:)`` starts, every two seconds. What cannot be read keeps the last good view of it and is
/// logged once.
package final class CredentialStore: Sendable {
    /// How often the files are read again, in milliseconds.
    package static let interval: Int32 = 2_000
    /// Longer ones are no tokens of ours and are not even hashed.
    private static let secretLimit = 256

    private let folder: CredentialFolder
    private let logger: Logger
    private let view: Mutex<View>
    private let counts = Mutex(Counts())
    /// Held over disk accesses; only those who reload ever wait for it.
    private let files: Mutex<CredentialReader>
    private let watcher = Mutex<PollingThread?>(nil)
    /// An unknown id is compared with this, so that it takes as long as a known one.
    private let nobody = SecretHash(of: IssuedToken().secret)

    /// By id, the revoked ones too.
    private typealias View = [String: Credential]

    private struct Counts {
        var statistics = CredentialStatistics()
        var limiter = FailureLimiter()
    }

    /// Reads the credentials once. The folder is made when it is missing; one that cannot be used stops the start.
    package init(dataDirectory: String, logger: Logger) throws(CredentialError) {
        let folder = CredentialFolder(dataDirectory: dataDirectory)
        do {
            _ = try PrivateFolder.make(path: folder.path)
        } catch {
            throw CredentialError(error)
        }
        self.folder = folder
        self.logger = logger
        self.view = Mutex([:])
        self.files = Mutex(CredentialReader(folder: folder))
        reload()
    }

    /// Checks a token's id and secret. Unknown, wrong and revoked look the same to whoever asks, in answer and in time.
    ///
    /// A correct secret is granted whatever others from the same address have done.
    package func verify(id: String, secret: String, from address: SocketAddress, now: NIODeadline) -> CredentialVerdict
    {
        let credential = IssuedToken.isID(id) ? self.view.withLock { $0[id] } : nil
        let hash = SecretHash(of: secret.utf8.count <= Self.secretLimit ? secret : "")
        let isRight = hash == (credential?.secretHash ?? nobody)
        let refusal: CredentialRefusal
        switch credential {
        case let credential? where isRight && !credential.isRevoked:
            counts.withLock { $0.statistics.granted += 1 }
            return .granted(credential)
        case _? where isRight: refusal = .revoked
        case _?: refusal = .wrongSecret
        case nil: refusal = .unknown
        }
        let wait = counts.withLock { counts in
            switch refusal {
            case .unknown: counts.statistics.unknown += 1
            case .wrongSecret: counts.statistics.wrongSecret += 1
            case .revoked: counts.statistics.revoked += 1
            }
            let wait = counts.limiter.fail(AddressKey(address), id: credential?.id, now: now)
            if wait != nil { counts.statistics.limited += 1 }
            return wait
        }
        return .refused(refusal, retryAfter: wait)
    }

    /// The credential as it is now; nil when it is revoked or gone. To be asked for each stream.
    package func credential(id: String) -> Credential? {
        guard let credential = view.withLock({ $0[id] }), !credential.isRevoked else { return nil }
        return credential
    }

    package var statistics: CredentialStatistics {
        counts.withLock { $0.statistics }
    }

    /// Starts the thread that keeps the view current. Call it once.
    ///
    /// - Parameter onChange: called on that thread, after the view was swapped, whenever something changed.
    package func watch(onChange: @escaping @Sendable (CredentialChanges) -> Void) {
        let thread = PollingThread(name: "credentials", intervalMilliseconds: Self.interval) { [weak self] in
            guard let changes = self?.reload(), !changes.isEmpty else { return }
            onChange(changes)
        }
        watcher.withLock { watcher in
            precondition(watcher == nil, "credentials are watched once")
            watcher = thread
        }
    }

    package func stop() {
        watcher.withLock { $0 }?.stop()
    }

    /// Reads the folder once. Blocking; the watching thread calls it.
    @discardableResult
    package func reload() -> CredentialChanges {
        let result = files.withLock { $0.read() }
        for problem in result.problems {
            logger.error("a credential cannot be used; what was known of it is kept", metadata: ["error": "\(problem)"])
        }
        for problem in result.mended {
            logger.notice("a credential can be used again", metadata: ["file": "\(problem)"])
        }
        let changes = view.withLock { view in
            let changes = Self.changes(from: view, to: result.credentials)
            view = result.credentials
            return changes
        }
        counts.withLock { counts in
            counts.statistics.good = result.credentials.values.count { !$0.isRevoked }
            counts.statistics.badFiles = result.badFiles
            if result.failed { counts.statistics.failedReloads += 1 }
        }
        return changes
    }

    private static func changes(from old: View, to new: View) -> CredentialChanges {
        var changes = CredentialChanges()
        for (id, before) in old where !before.isRevoked {
            guard let after = new[id], !after.isRevoked else {
                changes.ended.append(id)
                continue
            }
            if after !== before { changes.changed.append(id) }
        }
        for (id, after) in new where !after.isRevoked && old[id]?.isRevoked != false { changes.added.append(id) }
        changes.ended.sort()
        changes.changed.sort()
        changes.added.sort()
        return changes
    }
}
