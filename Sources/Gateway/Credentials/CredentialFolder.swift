import Certificates
package import FoundationEssentials
import Settings

/// The credentials on disk, one file each, as the command line makes, lists and revokes them. Every call blocks.
package struct CredentialFolder: Sendable {
    package let path: String
    let folder: PrivateFolder

    /// - Parameter dataDirectory: the gateway's own; credentials are in its folder `agents`.
    package init(dataDirectory: String) {
        path = "\(dataDirectory)/agents"
        folder = PrivateFolder(path: path)
    }

    /// Makes a token and its file. The secret exists only in what is returned.
    package func create(
        name: String,
        services: [String] = ["*"],
        hosts: [String] = [],
        now: Date = Date()
    ) throws(CredentialError) -> (token: IssuedToken, credential: Credential) {
        guard Credential.isName(name) else {
            throw CredentialError(.invalid, "\(quoted(name)) is not a name; use 1 to 63 of a-z, 0-9 and \"-\"")
        }
        guard max(services.count, hosts.count) <= CredentialFile.patternLimit else {
            throw CredentialError(.invalid, "a token has at most \(CredentialFile.patternLimit) services and hosts")
        }
        let token = IssuedToken()
        let file: CredentialFile
        do {
            file = CredentialFile(
                token: token,
                name: name,
                services: try services.map { try ServicePattern($0) },
                hosts: try hosts.map { try HostPattern($0) },
                created: now
            )
        } catch let complaint as Complaint {
            throw CredentialError(.invalid, "\(complaint.what). \(complaint.remedy)")
        } catch {
            preconditionFailure("patterns throw complaints only: \(error)")
        }
        do {
            _ = try PrivateFolder.make(path: path)
            let isNew = try folder.create(CredentialFile.name(id: token.id), file.encoded())
            precondition(isNew, "80 random bits came twice")
        } catch {
            throw CredentialError(error)
        }
        return (token, file.credential)
    }

    /// Every credential, in the order of name and id; what cannot be read is told beside them.
    package func list() throws(CredentialError) -> (credentials: [Credential], problems: [CredentialError]) {
        var credentials: [Credential] = []
        var problems: [CredentialError] = []
        for id in try ids() {
            do {
                credentials.append(try read(id: id).credential)
            } catch {
                problems.append(error)
            }
        }
        credentials.sort { ($0.name, $0.id) < ($1.name, $1.id) }
        return (credentials, problems)
    }

    /// Revokes by id, or by name; agents that use it are cut off within seconds.
    ///
    /// - Parameter all: a name that several good tokens share means all of them; otherwise that is an error.
    /// - Returns: what was revoked; a token that already was is not told again.
    package func revoke(
        idOrName: String,
        all: Bool = false,
        now: Date = Date()
    ) throws(CredentialError) -> [Credential] {
        let ids = try ids()
        let chosen: [CredentialFile]
        if ids.contains(idOrName) {
            chosen = [try read(id: idOrName)]
        } else {
            var named: [CredentialFile] = []
            for id in ids {
                // A damaged file has no name; it can be revoked by removing it.
                guard let file = try? read(id: id), file.credential.name == idOrName else { continue }
                named.append(file)
            }
            guard !named.isEmpty else {
                let remedy = "\"hopgate token list\" shows what there is"
                throw CredentialError(.notFound, "\(path): no token has the id or name \(quoted(idOrName)); \(remedy)")
            }
            chosen = named
        }
        let good = chosen.filter { !$0.credential.isRevoked }
        guard good.count <= 1 || all else {
            let ids = good.map(\.credential.id).joined(separator: ", ")
            let what = "\(good.count) tokens have the name \(quoted(idOrName))"
            throw CredentialError(.ambiguous, "\(what): \(ids); name one by its id, or revoke all of them with --all")
        }
        var revoked: [Credential] = []
        for file in good {
            let changed = file.revoked(at: now)
            do {
                try folder.publish(CredentialFile.name(id: file.credential.id), changed.encoded())
            } catch {
                throw CredentialError(error)
            }
            revoked.append(changed.credential)
        }
        return revoked
    }

    func read(id: String) throws(CredentialError) -> CredentialFile {
        let name = CredentialFile.name(id: id)
        let bytes: [UInt8]
        do {
            bytes = try folder.read(name, limit: CredentialFile.sizeLimit)
        } catch {
            throw CredentialError(error)
        }
        return try CredentialFile(bytes, id: id, path: "\(path)/\(name)")
    }

    private func ids() throws(CredentialError) -> [String] {
        do {
            return try folder.list().compactMap { CredentialFile.id(name: $0) }
        } catch {
            if error.code == .notFound { return [] }
            throw CredentialError(error)
        }
    }
}
