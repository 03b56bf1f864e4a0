import ArgumentParser
import Certificates
import Gateway
import Store

struct CertificateRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Remove a certificate from the store, with its key.",
        discussion: "Running gateways stop serving it within two seconds, unless it is their only certificate."
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("Its name in the store; see the column PLACE of \"cert list\".", valueName: "name"))
    var name: String

    func run() async throws {
        let key = try CertificateSupport.name(name).storeKey
        let (served, store) = try await CertificateSupport.inspect(options)
        defer { store.close() }
        guard served.statuses.contains(where: { $0.source == .store && $0.place == key.path }) else {
            throw Failure("the store has no certificate named \(name); \"hopgate cert list\" shows them")
        }
        _ = try await CertificateSet.remove(key, in: store)
        Terminal.info("Removed \(key).")
    }
}
