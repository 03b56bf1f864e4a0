import Glibc

/// Reading of files that the operator names in the configuration. Unlike in the store symbolic links are
/// followed and modes are the operator's affair: mounted secrets are links to files that anybody in the container may
/// read.
package enum ConfiguredFile {
    package static func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
        try read(path, at: AT_FDCWD, shown: path, limit: limit)
    }

    /// Both files of a pair. In a mounted secret the folder holds `..data`, a link that is swapped when the secret
    /// changes: it is resolved once, so that both files are of the same version.
    static func readPair(
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
                // The version was resolved, and deleted before both files were open: there is a newer one.
                guard error.code == .notFound, attempts > 0 else { throw error }
            }
        }
    }

    private static func readPairOnce(
        _ first: String,
        _ second: String,
        limit: Int
    ) throws(FileError) -> (first: [UInt8], second: [UInt8]) {
        let (folder, firstName) = split(first)
        let (secondFolder, secondName) = split(second)
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

    private static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        return (String(path[..<slash]), String(path[path.index(after: slash)...]))
    }
}
