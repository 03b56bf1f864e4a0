import Formats
import Glibc

extension FileFault {
    /// The reason and the remedy for a call that was denied: another user owns the folder, or its mode is too strict.
    var denial: String {
        let folder = "give the folder to the user that the gateway runs as"
        guard number == EACCES, let (place, status) = denyingFile else { return "permission denied; \(folder)" }
        guard status.st_uid == geteuid() else {
            return "permission denied; \(place) belongs to user \(Self.user(status.st_uid)), and this command runs as "
                + "\(Self.user(geteuid())): run it as that user"
        }
        guard status.st_mode & S_IFMT == S_IFDIR, status.st_mode & 0o700 != 0o700 else {
            return "permission denied; \(folder)"
        }
        return "permission denied; allow its owner to use it with: chmod u+rwx \(shellWord(place))"
    }

    /// The file or folder at the path or, if this user cannot determine that or there is none, the one above it.
    private var denyingFile: (place: String, status: Glibc.stat)? {
        var place = path
        var isAbove = false
        while !place.isEmpty {
            var status = Glibc.stat()
            if stat(place, &status) == 0 { return (place, status) }
            switch errno {
            case EACCES: break
            // Nothing could be created in the folder above.
            case ENOENT where !isAbove: isAbove = true
            default: return nil
            }
            place = place.lastIndex(of: "/").map { String(place[..<$0]) } ?? ""
        }
        return nil
    }

    /// Returns the name of a user with the id, or the id alone if there is no name.
    private static func user(_ id: uid_t) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16_384) { buffer -> String in
            var entry = passwd()
            var found: UnsafeMutablePointer<passwd>?
            guard let base = buffer.baseAddress, getpwuid_r(id, &entry, base, buffer.count, &found) == 0, found != nil,
                let name = entry.pw_name
            else { return "\(id)" }
            return "\(String(cString: name)) (\(id))"
        }
    }
}
