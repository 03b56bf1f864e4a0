import Certificates

/// Reads the folder of credentials again and again and remembers what it saw: unchanged bytes are not parsed twice, a
/// bad file keeps what was known of it, and a problem is told once.
struct CredentialReader: Sendable {
    /// Files at most; a folder that holds more is not read beyond them.
    static let fileLimit = 100_000

    struct Result {
        var credentials: [String: Credential]
        /// Problems that were not there the last time.
        var problems: [CredentialError]
        /// Names of files whose problem is gone.
        var mended: [String]
        var badFiles: Int
        /// The folder itself could not be read.
        var failed: Bool
    }

    private struct Entry {
        /// What was in the file when it was parsed last.
        var bytes: [UInt8]?
        var credential: Credential?
        var problem: CredentialError?
    }

    private let folder: CredentialFolder
    private var entries: [String: Entry] = [:]
    private var folderProblem: CredentialError?

    init(folder: CredentialFolder) {
        self.folder = folder
    }

    mutating func read() -> Result {
        var problems: [CredentialError] = []
        var mended: [String] = []
        do {
            let names = try folder.folder.list().filter { $0.hasSuffix(".json") }.prefix(Self.fileLimit)
            folderProblem = nil
            var next: [String: Entry] = [:]
            next.reserveCapacity(names.count)
            for name in names {
                let before = entries[name] ?? Entry()
                let after = refreshed(before, name: name)
                if let problem = after.problem, problem != before.problem { problems.append(problem) }
                if before.problem != nil, after.problem == nil { mended.append(name) }
                next[name] = after
            }
            entries = next
        } catch {
            let problem = CredentialError(error)
            if folderProblem != problem { problems.append(problem) }
            folderProblem = problem
        }
        var credentials: [String: Credential] = [:]
        credentials.reserveCapacity(entries.count)
        for case let credential? in entries.values.lazy.map(\.credential) { credentials[credential.id] = credential }
        return Result(
            credentials: credentials,
            problems: problems,
            mended: mended,
            badFiles: entries.values.count { $0.problem != nil },
            failed: folderProblem != nil
        )
    }

    private func refreshed(_ entry: Entry, name: String) -> Entry {
        var entry = entry
        do {
            let bytes = try folder.folder.read(name, limit: CredentialFile.sizeLimit)
            if bytes == entry.bytes { return entry }
            entry.bytes = bytes
            let id = String(name.dropLast(5))
            entry.credential = try CredentialFile(bytes, id: id, path: "\(folder.path)/\(name)").credential
            entry.problem = nil
        } catch let error as CredentialError {
            entry.problem = error
        } catch let error as FileError {
            // Read anew when it can be read again, even with the same bytes: the problem has to go away.
            entry.bytes = nil
            entry.problem = CredentialError(error)
        } catch {
            preconditionFailure("only these two kinds are thrown above: \(error)")
        }
        return entry
    }
}
