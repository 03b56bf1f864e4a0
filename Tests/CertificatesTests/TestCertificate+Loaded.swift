import Certificates
import TestSupport

extension TestCertificate {
    /// Returns the certificate as the target reads it from files.
    func loaded() throws -> ServerCertificate {
        try ServerCertificate(chain: chainBytes, key: keyBytes, chainPath: "chain.pem", keyPath: "key.pem")
    }
}
