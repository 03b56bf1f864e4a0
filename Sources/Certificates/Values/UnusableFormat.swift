import Formats

/// The formats of certificates and keys that a gateway does not read. They are recognised so that the error names the
/// format and the command that converts it.
enum UnusableFormat {
    /// The kinds of keys that both TLS libraries accept.
    static let keyKinds = "an RSA key of at least 2048 bits, an ECDSA key (P-256, P-384, P-521) or an Ed25519 key"

    /// Returns the reason why the content of a file cannot be used, with the remedy, or `nil` if the format is not one
    /// of these.
    static func reason(_ bytes: [UInt8], path: String) -> String? {
        guard let text = String(validating: bytes, as: UTF8.self) else { return encoded(bytes, path) }
        for (mark, reason) in marks where text.contains(mark) {
            return reason.replacing("FILE", with: shellWord(path))
        }
        return nil
    }

    /// Texts that occur only in files of one format.
    private static let marks = [
        ("Proc-Type: 4,ENCRYPTED", encryptedKey),
        ("ENCRYPTED PRIVATE KEY-----", encryptedKey),
        ("OPENSSH PRIVATE KEY-----", "is a key in the format of SSH; convert it with: ssh-keygen -p -m PKCS8 -f FILE"),
        ("DSA PRIVATE KEY-----", "is a DSA key, which TLS no longer uses; a certificate needs \(keyKinds)"),
        (
            "TRUSTED CERTIFICATE-----",
            "is in a format of OpenSSL's; convert it with: openssl x509 -in FILE -out cert.pem"
        ),
        (
            "BEGIN PKCS7-----",
            "is a PKCS #7 file; convert it with: openssl pkcs7 -print_certs -in FILE -out chain.pem"
        ),
        ("CERTIFICATE REQUEST-----", "is a request; name the certificate that the CA has issued for it"),
        ("PUBLIC KEY-----", "is a public key; name the private key that belongs to the certificate"),
        ("PARAMETERS-----", "contains the parameters of a key, but no key; name the file with the private key"),
    ]

    private static let encryptedKey =
        "the private key is encrypted; decrypt it with: openssl pkey -in FILE -out key.pem"

    /// Recognises DER by the beginning of the outer SEQUENCE (X.690 §8.1, §8.9).
    private static func encoded(_ bytes: [UInt8], _ path: String) -> String? {
        guard bytes.count > 1, bytes[0] == 0x30 else { return nil }
        let content = bytes.dropFirst(bytes[1] < 0x80 ? 2 : 2 + Int(bytes[1] & 0x7F))
        let (name, command) =
            if content.starts(with: [0x02, 0x01, 0x03]) {
                (
                    "a PKCS #12 file",
                    "openssl pkcs12 -in FILE -nodes -out both.pem (add -legacy if openssl reports \"unsupported\"), "
                        + "then name both.pem as certificate and as key"
                )
            } else if content.starts(with: [0x02]) {
                ("a private key in DER", "openssl pkey -inform DER -in FILE -out key.pem")
            } else if content.starts(with: [0x06]) {
                ("a PKCS #7 file in DER", "openssl pkcs7 -inform DER -print_certs -in FILE -out chain.pem")
            } else {
                // An encrypted key (PKCS #8) has the same beginning. openssl recognises it by itself.
                ("DER", "openssl x509 -inform DER -in FILE -out cert.pem")
            }
        return "is \(name); convert it with: \(command.replacing("FILE", with: shellWord(path)))"
    }
}
