import ACME
import Certificates
package import Formats
import Store

extension RenewalStatus {
    /// The fields that `/v1/certificates` adds to those of the served certificate.
    var report: [String: JSONValue] {
        [
            "names": .array(names.map { .string($0.description) }),
            "on_demand": .bool(isOnDemand),
            "ordering": .bool(isOrdering),
            "ca": authority.map { .string($0) } ?? .null,
            "next_renewal": nextRenewal.map { .string($0.rfc3339) } ?? .null,
            "renewal_explanation": explanation.map { .string($0) } ?? .null,
            "next_try": nextTry.map { .string($0.rfc3339) } ?? .null,
            "failures": .integer(Int64(failures)),
            "last_error": lastError.map { .object($0.report) } ?? .null,
        ]
    }
}

extension RenewalState.LastError {
    package var report: [String: JSONValue] {
        [
            "code": .string(code),
            "message": .string(message),
            "remedy": .string(remedy),
            "identifier": identifier.map { .string($0) } ?? .null,
            "ca": .string(authority),
            "at": .string(at.rfc3339),
        ]
    }
}
