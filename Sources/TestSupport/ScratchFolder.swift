import FoundationEssentials
package import Glibc

/// A temporary folder for one test, deleted with its contents when this object is.
///
/// A suite holds one as a property. A function that holds one in a variable calls ``remove()`` in a `defer` statement,
/// so that the folder lives as long as the function.
package final class ScratchFolder: Sendable {
    /// The absolute path, without a slash at the end.
    package let path: String

    /// Creates an empty folder with mode 0700.
    package init() {
        var template = Array((FileManager.default.temporaryDirectory.path + "/hopgate-test-XXXXXX").utf8CString)
        guard mkdtemp(&template) != nil else { preconditionFailure("no scratch folder: errno \(errno)") }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit { remove() }

    /// Deletes the folder and all it contains. Has no effect on a folder that is already deleted.
    package func remove() { try? FileManager.default.removeItem(atPath: path) }

    /// Returns the path of a file in the folder. The file need not exist.
    package func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Creates or replaces a file, and its folders if they do not exist.
    ///
    /// - Parameters:
    ///   - name: The path of the file, relative to the folder.
    ///   - mode: The permissions. The umask of the process does not apply.
    /// - Returns: The absolute path of the file.
    @discardableResult
    package func write(_ name: String, _ bytes: [UInt8], mode: mode_t = 0o600) -> String {
        let file = file(name)
        if name.contains("/") {
            let folder = String(file[..<file.lastIndex(of: "/")!])
            try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        }
        let descriptor = open(file, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, mode)
        precondition(descriptor >= 0, "cannot create \(file): errno \(errno)")
        defer { close(descriptor) }
        precondition(fchmod(descriptor, mode) == 0 && Glibc.write(descriptor, bytes, bytes.count) == bytes.count)
        return file
    }

    /// Creates or replaces a file with a text as UTF-8.
    @discardableResult
    package func write(_ name: String, _ text: String, mode: mode_t = 0o600) -> String {
        write(name, Array(text.utf8), mode: mode)
    }

    /// Creates a symbolic link. The target is relative to the folder of the link.
    package func link(_ name: String, to target: String) {
        precondition(symlink(target, file(name)) == 0, "cannot create the link \(file(name)): errno \(errno)")
    }

    /// Returns the contents of a file; empty if it cannot be read.
    package func read(_ name: String) -> [UInt8] {
        FileManager.default.contents(atPath: file(name)).map(Array.init) ?? []
    }

    /// Returns the permissions of a file, or of the folder itself for an empty name; `nil` if it does not exist.
    package func mode(_ name: String = "") -> Int? {
        let attributes = try? FileManager.default.attributesOfItem(atPath: name.isEmpty ? path : file(name))
        return attributes?[.posixPermissions] as? Int
    }

    /// Returns the names in the folder or in one of its folders, sorted; empty if there is no such folder.
    package func names(_ folder: String = "") -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: file(folder))) ?? []).sorted()
    }

    /// Returns a text without the paths of this folder, so that messages can be compared.
    package func relative(_ text: String) -> String { text.replacing(path + "/", with: "") }
}
