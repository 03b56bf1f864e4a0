import Certificates
import Formats

extension StatusCommand {
    /// What `GET /v1/certificates` tells, as a table with its header.
    static func certificates(_ answer: [String: JSONValue]) -> [[String]] {
        let header = ["CERTIFICATE", "STATE", "NOT AFTER", "NEXT RENEWAL", "CA", "LAST ERROR"]
        return [header]
            + (answer["certificates"]?.objects ?? []).map { certificate in
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

    /// The first of its names, and how many there are beside it.
    private static func name(_ certificate: [String: JSONValue]) -> String {
        if certificate.text("source") == CertificateSource.development.rawValue { return "(development CA)" }
        let names = certificate["names"]?.strings ?? []
        // What cannot be read has no names.
        guard let first = names.first else { return certificate.text("place") }
        return JSONValue.string(first).word.map { names.count > 1 ? "\($0) +\(names.count - 1)" : $0 } ?? "?"
    }

    /// The host of a directory URL.
    private static func authority(_ directory: String) -> String {
        let parts = directory.split(separator: "/", omittingEmptySubsequences: false)
        return parts.count > 2 ? String(parts[2]) : directory
    }

    private static func error(_ certificate: [String: JSONValue]) -> String {
        guard let error = certificate["last_error"]?.fields else {
            return certificate["problem"] == nil ? "-" : certificate.text("problem")
        }
        let next = certificate["next_try"]?.word
        return error.text("code") + (next.map { "; next try \($0)" } ?? "")
    }
}
