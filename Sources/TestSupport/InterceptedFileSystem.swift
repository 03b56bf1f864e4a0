package import Store

/// A file system that passes all calls to another one, and may count, delay or fail them first.
package protocol InterceptedFileSystem: FileSystem {
    var files: any FileSystem { get }

    /// Called before a call is passed on. An error is the result of the call.
    ///
    /// - Parameters:
    ///   - path: The path of the call; the new one of a link or a rename.
    ///   - access: The access to the file that is opened, or `nil` for other calls.
    func intercept(_ call: FileFault.Call, _ path: String, _ access: FileAccess?) throws(FileFault)
}

extension InterceptedFileSystem {
    package var root: String { files.root }

    package func open(_ path: String, _ access: FileAccess) throws(FileFault) -> any OpenFile {
        try intercept(.open, path, access)
        return try files.open(path, access)
    }

    package func status(_ path: String) throws(FileFault) -> FileStatus {
        try intercept(.stat, path, nil)
        return try files.status(path)
    }

    package func forceSync(_ folder: String) throws(FileFault) {
        try intercept(.forceSync, folder, nil)
        try files.forceSync(folder)
    }

    package func list(_ folder: String, fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        try intercept(.list, folder, nil)
        return try files.list(folder, fresh: fresh, limit: limit)
    }

    package func link(_ path: String, to target: String) throws(FileFault) {
        try intercept(.link, target, nil)
        try files.link(path, to: target)
    }

    package func rename(_ path: String, to target: String) throws(FileFault) {
        try intercept(.rename, target, nil)
        try files.rename(path, to: target)
    }

    package func unlink(_ path: String) throws(FileFault) {
        try intercept(.unlink, path, nil)
        try files.unlink(path)
    }

    package func makeFolder(_ path: String) throws(FileFault) {
        try intercept(.mkdir, path, nil)
        try files.makeFolder(path)
    }

    package func removeFolder(_ path: String) throws(FileFault) {
        try intercept(.rmdir, path, nil)
        try files.removeFolder(path)
    }

    package func syncFolder(_ path: String) throws(FileFault) {
        try intercept(.syncFolder, path, nil)
        try files.syncFolder(path)
    }
}
