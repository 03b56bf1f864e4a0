import Glibc

/// Reading of files that the operator names in the configuration.
///
/// Unlike in the store, symbolic links are followed and modes are not checked: a mounted secret is a link to a file
/// that every user in the container may read.
package enum ConfiguredFile {
    /// Reads a whole plain file of at most `limit` bytes.
    package static func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
        try read(path, at: AT_FDCWD, shown: path, limit: limit)
    }

    /// Returns the mode of a file that users other than its owner and its group may read, as octal digits. `nil` for
    /// any other file.
    package static func modeIfOthersMayRead(_ path: String) -> String? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & 0o004 != 0 else { return nil }
        return "0" + String(status.st_mode & 0o7777, radix: 8)
    }

    /// Reads two files that belong together, such as a certificate and its key.
    ///
    /// In a mounted secret the folder holds `..data`, a link that is swapped when the secret changes. The link is
    /// resolved once, so that both files are of the same version.
    package static func readPair(
        _ first: String,
        _ second: String,
        limit: Int
    ) throws(FileError) -> (first: [UInt8], second: [UInt8]) {
        var attempts = 3
        while true {
            do {
                return try readPairOnce(first, second, limit: limit)
            } catch {
                attempts -= 1
                // The resolved version was deleted before both files were open: a newer one exists.
                guard error.code == .notFound, attempts > 0 else { throw error }
            }
        }
    }

    private static func readPairOnce(
        _ first: String,
        _ second: String,
        limit: Int
    ) throws(FileError) -> (first: [UInt8], second: [UInt8]) {
        let (folder, firstName) = splitPath(first)
        let (secondFolder, secondName) = splitPath(second)
        guard folder == secondFolder else {
            return (try read(first, limit: limit), try read(second, limit: limit))
        }
        let version = open("\(folder)/..data", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard version >= 0 else {
            return (try read(first, limit: limit), try read(second, limit: limit))
        }
        let data = Descriptor(version)
        return (
            try read(firstName, at: data.number, shown: first, limit: limit),
            try read(secondName, at: data.number, shown: second, limit: limit)
        )
    }

    private static func read(
        _ path: String,
        at folder: Int32,
        shown: String,
        limit: Int
    ) throws(FileError) -> [UInt8] {
        let number = openat(folder, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        guard number >= 0 else { throw .last("open", shown) }
        return try Descriptor(number).readAll(shown, limit: limit)
    }
}
