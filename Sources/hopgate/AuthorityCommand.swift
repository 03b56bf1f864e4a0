import ArgumentParser
import Certificates
import Gateway

struct AuthorityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ca",
        abstract: "Print where the development CA's root is, and its fingerprint.",
        discussion: """
            The root is made when there is none yet. Agents take the file (ca) or the pin; browsers and curl the file.
            A gateway with certificates of its own does not use it.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print the root certificate itself, as PEM.")
    var pem = false

    @Flag(help: "Print a JSON object.")
    var json = false

    private struct Description: Encodable {
        let path: String
        let sha256: String
        let pin: String
    }

    func validate() throws {
        if pem && json { throw ValidationError("--pem and --json cannot be given together.") }
    }

    func run() throws {
        let directory = DevelopmentCA.directory(dataDirectory: try options.load().store.path)
        let root = try DevelopmentRoot.loadOrCreate(directory: directory)
        if pem {
            print(String(decoding: root.certificatePEM, as: UTF8.self), terminator: "")
        } else if json {
            let description = Description(path: root.path, sha256: root.fingerprint, pin: root.pin)
            print(try TokenDescription.json(description))
        } else {
            print(Terminal.table([["root", root.path], ["pin", root.pin]]))
        }
    }
}
