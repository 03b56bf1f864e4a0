import ArgumentParser
import Certificates
import Credentials
import Formats
import Gateway
import Store

struct AuthorityCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ca",
        abstract: "Print the pin of the development CA's root certificate, or the certificate.",
        discussion: """
            The root is created if there is none yet, once for all replicas. Agents trust it by the certificate \
            (ca) or the pin, browsers and curl by the certificate. It is used for names that no other certificate covers.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print the root certificate itself, as PEM.")
    var pem = false

    @Flag(help: "Create a new root in the place of the present one. Every client has to be told to trust it.")
    var replace = false

    @Flag(help: "Print a JSON object.")
    var json = false

    func validate() throws {
        if pem && json { throw ValidationError("--pem and --json cannot be given together.") }
    }

    func run() async throws {
        let context = try await CommandContext.open(try await options.load(), isFounding: true)
        defer { context.close() }
        let (certificates, key) = (context.certificates, CertificateSet.developmentCA)
        let replacement = replace ? try await DevelopmentRoot.replace(in: certificates) : nil
        if replacement?.hadRoot == true { await Self.reportClients(of: context.editor) }
        let root: DevelopmentRoot
        if let replacement {
            root = replacement.root
        } else {
            root = try await DevelopmentRoot.obtain(in: certificates)
        }
        if pem {
            try Terminal.print(String(decoding: root.certificatePEM, as: UTF8.self), terminator: "")
        } else if json {
            try Terminal.print([
                "store": .string(context.storePath), "place": .string(key.path), "sha256": .string(root.fingerprint),
                "pin": .string(root.pin),
            ])
        } else {
            try Terminal.print(table: [["root", key.path], ["pin", root.pin]])
        }
        if let error = replacement?.undeleted {
            throw Failure(
                "the root was replaced, but the key of the previous one may still be on the volume: \(error); "
                    + "delete its versions below the newest in \(context.certificates.store.place(of: key))"
            )
        }
    }

    /// The highest number of tokens that are named.
    private static let tokensNamed = 20

    /// Reports which clients trust the previous root, and how each is given the new one.
    private static func reportClients(of editor: CredentialEditor) async {
        Terminal.info(
            """
            Clients that trust the previous root have to be given the new one: browsers, and agents with trust.ca_file \
            or trust.pin. Agents that joined by a join string with its pin cannot attach again when their tunnel ends.
            Give each of them a new join string with: hopgate token rotate ID [--gateway HOST:PORT]
            A join file keeps its addresses and gets the pin by: hopgate token create NAME --if-absent --join-file FILE
            """
        )
        let valid = (try? await editor.list())?.credentials.filter { !$0.isRevoked } ?? []
        guard !valid.isEmpty else { return }
        let names = valid.prefix(tokensNamed).map { "\($0.id) for \"\($0.name)\"" }.joined(separator: ", ")
        let more = valid.count - min(valid.count, tokensNamed)
        let rest = more > 0 ? ", and \(more) more; \"hopgate token list\" shows all" : ""
        Terminal.info("Tokens: \(names)\(rest).")
    }
}
