/// What stands in a store's folder and should not, or not so.
package struct VolumeInspection: Equatable, Sendable {
    /// What the gateways refuse, each with its remedy.
    package internal(set) var problems: [String] = []
    /// Accepted, but worth a line.
    package internal(set) var remarks: [String] = []

    /// So many lines of a kind; a chmod -R would fill screens with the same one.
    static let linesPerKind = 10

    var refusedCount = 0
    var acceptedCount = 0
    var foreignCount = 0

    mutating func refuse(_ line: String) {
        refusedCount += 1
        if refusedCount <= Self.linesPerKind { problems.append(line) }
    }

    mutating func accept(_ line: String) {
        acceptedCount += 1
        if acceptedCount <= Self.linesPerKind { remarks.append(line) }
    }

    mutating func foreign(_ line: String) {
        foreignCount += 1
        if foreignCount <= Self.linesPerKind { remarks.append(line) }
    }

    mutating func finish() {
        let refused = refusedCount - Self.linesPerKind
        if refused > 0 { problems.append("and \(refused) more that are refused") }
        let accepted =
            acceptedCount + foreignCount - min(acceptedCount, Self.linesPerKind)
            - min(foreignCount, Self.linesPerKind)
        if accepted > 0 { remarks.append("and \(accepted) more of that kind") }
    }
}

extension Volume {
    private static let inspectedDepth = 5
    private static let inspectedEntries = 50_000

    /// Walks through the store as far as it is shared state: kinds, modes, owners and names of what is there. Reads no
    /// contents, changes nothing.
    package func inspect() -> VolumeInspection {
        var result = VolumeInspection()
        var left = Self.inspectedEntries
        inspect("", 0, &left, &result)
        if left == 0 { result.remarks.append("only \(Self.inspectedEntries) names were looked at; there are more") }
        result.finish()
        return result
    }

    private func inspect(_ folder: String, _ depth: Int, _ left: inout Int, _ result: inout VolumeInspection) {
        let listing: FolderListing
        do {
            listing = try files.list(folder, fresh: false, limit: 200_000)
        } catch {
            // What vanished while we walked was somebody's temporary file.
            if error.kind != .missing { result.refuse(StoreError(error).description) }
            return
        }
        judge(folder, listing.status, &result)
        for name in listing.names.sorted() {
            guard left > 0 else { return }
            left -= 1
            let path = folder.isEmpty ? name : "\(folder)/\(name)"
            // Files under way and hints have names of their own.
            guard !name.hasPrefix(".") else { continue }
            guard StoreKey.isComponent(name), depth > 0 || Self.topLevel.contains(name) else {
                let place = StoreKey.shown(shown(path))
                result.foreign("\(place) is not ours and is left alone; it belongs elsewhere")
                continue
            }
            guard let status = try? files.status(path) else { continue }
            switch status.kind {
            case .folder:
                // What is under way or dead is nobody's state.
                let isState = path != Self.temporaries && path != Self.tombs
                if isState, depth < Self.inspectedDepth {
                    inspect(path, depth + 1, &left, &result)
                } else {
                    judge(path, status, &result)
                }
            case .file: judge(path, status, &result)
            case .symbolicLink:
                result.refuse("\(shown(path)): is a symbolic link, which is not followed; put the real thing there")
            case .other:
                result.refuse("\(shown(path)): is neither a file nor a folder; remove it")
            }
        }
    }

    private static var topLevel: Set<String> {
        [
            "agents", "acme", "certs", ClusterDocument.keyFolder, ClusterDocument.key.path, "locks", replicas,
            temporaries, tombs,
        ]
    }

    private func judge(_ path: String, _ status: FileStatus, _ result: inout VolumeInspection) {
        let mode = String(status.mode, radix: 8)
        if status.isOpenToOthers {
            let mend = status.kind == .folder ? "700" : "600"
            result.refuse(
                "\(shown(path)): is open to other users (mode \(mode)) and not used; chmod \(mend) \(shown(path))"
            )
        } else if status.isUnusual {
            result.accept("\(shown(path)): mode \(mode), owner \(status.owner): unusual, accepted")
        }
    }

    /// Files in `keys/` that cluster.json does not name: left by a start or a rotation that was interrupted.
    package func strayKeys(_ cluster: ClusterIdentity) throws(StoreError) -> [String] {
        let names = try namesIfPresent(in: ClusterDocument.keyFolder) ?? []
        return names.filter { name in !cluster.keyring.keys.contains { $0.id == name } }.sorted().map {
            shown("\(ClusterDocument.keyFolder)/\($0)")
        }
    }
}
