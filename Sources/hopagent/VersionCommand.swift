import ArgumentParser

struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

    func run() {
        print("hopagent \(version)")
    }
}

/// The version of this binary.
let version = "0.1.0"
