import Formats
import Glibc
package import NIOCore

/// The files in a store's folder that should not be there, or have the wrong mode or kind.
package struct VolumeInspection: Equatable, Sendable {
    /// The reasons why gateways refuse folders and files that the whole store depends on, each with its remedy.
    package internal(set) var problems: [StoreError] = []
    /// The other folders and files that gateways refuse.
    package internal(set) var refused: [StoreError] = []
    /// The files that are accepted but unusual.
    package internal(set) var remarks: [String] = []

    /// The highest number of lines of a kind, because a `chmod -R` would fill screens with the same line.
    static let linesPerKind = 10

    var acceptedCount = 0
    var foreignCount = 0

    /// Adds a file or folder that gateways refuse. Those in `keys/` count as not essential: a start reads the keys that
    /// cluster.json names, and fails if one of these is refused.
    ///
    /// - Parameter path: The path below the store.
    mutating func addRefused(_ path: String, _ error: StoreError) {
        let top = path.prefix { $0 != "/" }
        let isEssential =
            top == path || top == ClusterDocument.key.path || StoreLayout.all.contains { $0.path == path }
        if isEssential { problems.append(error) } else { refused.append(error) }
    }

    mutating func addAccepted(_ line: String) {
        acceptedCount += 1
        if acceptedCount <= Self.linesPerKind { remarks.append(line) }
    }

    mutating func addForeign(_ line: String) {
        foreignCount += 1
        if foreignCount <= Self.linesPerKind { remarks.append(line) }
    }

    /// Appends the numbers of lines that were left out.
    mutating func finish() {
        let accepted =
            acceptedCount + foreignCount - min(acceptedCount, Self.linesPerKind)
            - min(foreignCount, Self.linesPerKind)
        if accepted > 0 { remarks.append("and \(accepted) more of that kind") }
    }
}

extension Volume {
    private static let inspectedDepth = 5
    private static let inspectedEntries = 50_000

    /// Walks through the shared state of the store and checks kinds, modes, owners and names. Reads no contents and
    /// changes nothing.
    ///
    /// - Parameter end: The time at which the walk stops, as on a volume that answers slowly.
    package func inspect(until end: NIODeadline = .distantFuture) -> VolumeInspection {
        var result = VolumeInspection()
        var left = Self.inspectedEntries
        inspect("", 0, &left, end, &result)
        if left == 0 {
            result.remarks.append("only \(Self.inspectedEntries) names were inspected; there are more")
        } else if now() >= end {
            let count = Self.inspectedEntries - left
            result.remarks.append("only \(count) names were inspected in the time for it; there are more")
        }
        result.finish()
        return result
    }

    /// Reports hints that are refused: changes of their prefix are found late.
    private func inspectHints(_ path: String, _ result: inout VolumeInspection) {
        do {
            _ = try names(in: path, fresh: false)
        } catch {
            if error.code == .refused { result.addRefused(path, error) }
        }
    }

    private func inspect(
        _ folder: String,
        _ depth: Int,
        _ left: inout Int,
        _ end: NIODeadline,
        _ result: inout VolumeInspection
    ) {
        let listing: FolderListing
        do {
            listing = try files.list(folder, fresh: false, limit: 200_000)
        } catch {
            // A folder that disappeared during the walk was a temporary one.
            if error.kind != .missing { result.addRefused(folder, StoreError(error)) }
            return
        }
        checkMode(folder, listing.status, &result)
        for name in listing.names.sorted() {
            guard left > 0, now() < end else { return }
            left -= 1
            let path = folder.isEmpty ? name : "\(folder)/\(name)"
            // A watch reads the hints. Similar files of others have names that begin with a dot, too.
            if path == Self.hints(folder) { inspectHints(path, &result) }
            guard !name.hasPrefix(".") else { continue }
            guard StoreKey.isComponent(name), depth > 0 || Self.topLevel.contains(name), !isForeign(name, in: folder)
            else {
                let place = StoreKey.printable(displayPath(path))
                result.addForeign("\(place) does not belong to the store and is ignored; move it elsewhere")
                continue
            }
            guard let status = try? files.status(path) else { continue }
            // Only a key may be a folder with such a name.
            let isKey = status.kind == .folder && !name.hasSuffix(".json")
            if !isKey, let error = StoreNumber.exhaustion(of: displayPath(path)) {
                result.addRefused(path, error)
                continue
            }
            switch status.kind {
            case .folder:
                // Temporary and archived folders are not shared state.
                let isState = path != Self.temporaries && path != Self.tombs
                if isState, depth < Self.inspectedDepth {
                    inspect(path, depth + 1, &left, end, &result)
                } else {
                    checkMode(path, status, &result)
                }
            case .file where depth == 0 || (path.hasPrefix("locks/") && StoreNumber.parse(name: name) == nil):
                result.addRefused(path, StoreError(FileFault(.list, displayPath(path), ENOTDIR)))
            case .file: checkMode(path, status, &result)
            case .symbolicLink: result.addRefused(path, StoreError(FileFault(.open, displayPath(path), ELOOP)))
            case .other:
                let reason = "is neither a file nor a folder; delete it with: rm \(shellWord(displayPath(path)))"
                result.addRefused(path, StoreError(.refused, displayPath(path), reason))
            }
        }
    }

    /// Whether a file in the folder of a key or of a lease has the name of neither a version nor an epoch.
    private func isForeign(_ name: String, in folder: String) -> Bool {
        if folder.hasPrefix("locks/") {
            return name.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
                && StoreNumber.parse(name: name) == nil
        }
        guard let key = try? StoreKey(folder) else { return false }
        let isValue = key == .clusterDocument || key.parent.map(StoreLayout.all.contains) == true
        return isValue && VersionName.version(name, key: key) == nil
    }

    private static var topLevel: Set<String> {
        StoreLayout.folders.union([
            ClusterDocument.keyFolder, ClusterDocument.key.path, "locks", replicas, temporaries, tombs,
        ])
    }

    /// Adds a line if the mode or owner is unusual or refused.
    private func checkMode(_ path: String, _ status: FileStatus, _ result: inout VolumeInspection) {
        let mode = String(status.mode, radix: 8)
        if status.isOpenToOthers {
            let required = status.kind == .folder ? "700" : "600"
            let reason =
                "is open to other users (mode \(mode)) and not used; fix it with: "
                + "chmod \(required) \(shellWord(displayPath(path)))"
            result.addRefused(path, StoreError(.refused, displayPath(path), reason))
        } else if status.isUnusual {
            result.addAccepted("\(displayPath(path)): mode \(mode), owner \(status.owner): unusual, accepted")
        }
    }

    /// Returns the files in `keys/` that cluster.json does not name, left by an interrupted start or rotation.
    package func strayKeys(_ cluster: ClusterIdentity) throws(StoreError) -> [String] {
        let names = try namesIfPresent(in: ClusterDocument.keyFolder) ?? []
        let known = Set(cluster.keyring.keys.map(\.id) + cluster.unusableKeys.map(\.id))
        return names.filter { !known.contains($0) }.sorted().map { displayPath("\(ClusterDocument.keyFolder)/\($0)") }
    }
}
