import ArgumentParser

struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

    func run() throws {
        try Terminal.print("hopgate \(version)")
    }
}

/// The version of this binary.
let version = "0.1.0"
