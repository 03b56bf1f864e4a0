import Glibc

/// The default folder of the store.
package enum DataDirectory {
    /// The folder that the container image and the packages create.
    package static let system = "/var/lib/hopgate"

    /// The system's folder if this process can write there, otherwise the user's according to the XDG Base Directory
    /// Specification.
    package static func standard(environment: [String: String], isWritable: (String) -> Bool = isWritable) -> String {
        if isWritable(system) { return system }
        // The specification requires that relative paths are ignored.
        if let data = environment["XDG_DATA_HOME"], data.hasPrefix("/") { return data + "/hopgate" }
        if let home = environment["HOME"], home.hasPrefix("/") { return home + "/.local/share/hopgate" }
        return system
    }

    private static func isWritable(_ path: String) -> Bool { access(path, W_OK | X_OK) == 0 }
}
