import Certificates
import Formats

extension StatusCommand {
    /// The table of certificates with its header.
    static func certificates(_ entries: [[String: JSONValue]]) -> [[String]] {
        [["CERTIFICATE", "STATE", "NOT AFTER", "NEXT RENEWAL", "CA", "LAST ERROR"]]
            + entries.map { certificate in
                [
                    name(certificate),
                    certificate.text("state") + (certificate["ordering"] == .bool(true) ? ", ordering" : ""),
                    certificate.text("not_after", absent: "-"),
                    certificate.text("next_renewal", absent: "-"),
                    authority(certificate.text("ca", absent: "-")),
                    error(certificate),
                ]
            }
    }

    /// The first name of a certificate, and the number of further ones.
    private static func name(_ certificate: [String: JSONValue]) -> String {
        if certificate.text("source") == CertificateSource.development.rawValue { return "(development CA)" }
        let names = certificate["names"]?.strings ?? []
        // A certificate that cannot be read has no names.
        guard let first = names.first else { return certificate.text("place") }
        return JSONValue.string(first).displayText.map { names.count > 1 ? "\($0) +\(names.count - 1)" : $0 } ?? "?"
    }

    /// The host of a CA's directory URL.
    private static func authority(_ directory: String) -> String {
        let parts = directory.split(separator: "/", omittingEmptySubsequences: false)
        return parts.count > 2 ? String(parts[2]) : directory
    }

    private static func error(_ certificate: [String: JSONValue]) -> String {
        guard let error = certificate["last_error"]?.object else {
            return certificate["problem"] == nil ? "-" : certificate.text("problem")
        }
        let next = certificate["next_try"]?.displayText
        return error.text("code") + (next.map { "; next try \($0)" } ?? "")
    }
}
