import Glibc

/// Replacement of a secret file in one step: a reader sees either the previous contents or the new ones, whole.
package enum AtomicFile {
    /// Writes a temporary file beside the target with mode 0600, flushes it, renames it over the target and flushes the
    /// folder. The temporary file is removed if any step before the rename fails.
    package static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
        let (folder, name) = splitPath(path)
        let temporary = "\(folder)/.\(name).\(UInt64.random(in: 0 ... .max)).tmp"
        let number = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw .last("create", path) }
        do throws(FileError) {
            try fill(Descriptor(number), bytes, path)
            guard rename(temporary, path) == 0 else { throw .last("rename", path) }
        } catch {
            unlink(temporary)
            throw error
        }
        let parent = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { throw .last("open", folder) }
        try Descriptor(parent).synchronize(folder)
    }

    private static func fill(_ file: consuming Descriptor, _ bytes: [UInt8], _ path: String) throws(FileError) {
        // The umask only removes bits; an inherited access list may add some.
        guard fchmod(file.number, 0o600) == 0 else { throw .last("chmod", path) }
        try file.writeAll(bytes, path)
        try file.synchronize(path)
    }
}
