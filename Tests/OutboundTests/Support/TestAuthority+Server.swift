import NIOSSL
import TestSupport

extension TestAuthority {
    /// Creates the TLS context of a server with a certificate of this authority.
    ///
    /// - Parameters:
    ///   - names: The host names and IP addresses of the certificate.
    ///   - hours: The validity in hours from now; negative for the past.
    func server(
        _ names: [String] = ["localhost", "127.0.0.1"],
        hours: ClosedRange<Double> = -1...1,
        adjust: (inout TLSConfiguration) -> Void = { _ in }
    ) -> NIOSSLContext {
        let certificate = try! issue(names, hours: hours)
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: [.certificate(try! NIOSSLCertificate(bytes: certificate.chainBytes, format: .pem))],
            privateKey: .privateKey(try! NIOSSLPrivateKey(bytes: certificate.keyBytes, format: .pem))
        )
        adjust(&configuration)
        return try! NIOSSLContext(configuration: configuration)
    }
}
