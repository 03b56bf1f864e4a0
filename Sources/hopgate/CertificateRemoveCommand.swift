import ArgumentParser
import Certificates
import Cluster
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
        let (shared, store) = try await CommandStore.open(try options.load())
        defer { store.close() }
        let certificates = shared.certificates
        do throws(StoreError) {
            try await certificates.withLease(of: key) { lease throws(StoreError) in
                try await certificates.remove(key, under: lease)
            }
        } catch {
            guard error.code == .notFound else { throw error }
            throw Failure("the store has no certificate named \(name); \"hopgate cert list\" shows them")
        }
        Terminal.info("Removed \(key).")
    }
}
