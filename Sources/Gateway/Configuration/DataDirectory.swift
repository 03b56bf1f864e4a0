import Glibc

/// Where the store is when nobody says.
package enum DataDirectory {
    /// The folder that the image and packages make.
    package static let system = "/var/lib/hopgate"

    /// The system's folder if this process may write there, else the user's, by the XDG base directory rules.
    package static func standard(environment: [String: String], isWritable: (String) -> Bool = isWritable) -> String {
        if isWritable(system) { return system }
        // The rules say that a relative path is to be ignored.
        if let data = environment["XDG_DATA_HOME"], data.hasPrefix("/") { return data + "/hopgate" }
        if let home = environment["HOME"], home.hasPrefix("/") { return home + "/.local/share/hopgate" }
        return system
    }

    private static func isWritable(_ path: String) -> Bool { access(path, W_OK | X_OK) == 0 }
}
