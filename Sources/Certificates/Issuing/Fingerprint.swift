import Crypto

/// A short name for a text that may be long, or that is no name of the store: 32 hexadecimal digits of its SHA-256.
package enum Fingerprint {
    package static func of(_ text: String) -> String {
        Array(SHA256.hash(data: Array(text.utf8)).prefix(16)).hexadecimal
    }
}
