import ACME
import ArgumentParser
import Certificates
import Formats
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

    private static let rootFailure = Failure(
        "\(CertificateSet.developmentCA) is the root of the development CA; \"hopgate ca --replace\" replaces it"
    )

    func run() async throws {
        let root = CertificateSet.developmentCA
        guard name != root.path, !name.hasPrefix("\(root)/") else { throw Self.rootFailure }
        let wanted = try CertificateSupport.name(name)
        let key = try wanted.storeKey
        let context = try await CommandContext.open(try await options.load())
        defer { context.close() }
        let certificates = context.certificates
        do throws(StoreError) {
            try await certificates.withLease(of: key) { lease throws(StoreError) in
                try await certificates.remove(key, under: lease)
            }
        } catch {
            guard error.code == .notFound else { throw error }
            guard name != root.name else { throw Self.rootFailure }
            let others = try await context.servedCertificates().statuses
            let places = others.filter { $0.source == .store && $0.certificate?.names.contains(wanted) == true }
            // It is not removed under this name, because the others that it has would be lost with it.
            if let place = places.first,
                let called = (try? StoreKey(place.place)).flatMap(CertificateName.init(storeKey:))
            {
                throw Failure(
                    "\(wanted) is one of the names of \(place.place) (\(CertificateSupport.names(place.certificate))); "
                        + "remove the whole certificate with: hopgate cert remove \(shellWord("\(called)"))"
                )
            }
            throw Failure("the store has no certificate named \(name); \"hopgate cert list\" shows them")
        }
        Terminal.info("Removed \(key).")
    }
}
