package import ACME
package import Outbound

/// A transport of requests to a CA: libcurl, or a CA in memory in tests.
package protocol ACMETransport: Sendable {
    /// Sends a request.
    ///
    /// - Throws: If there is no complete response, or the task was cancelled.
    func send(_ request: ACMERequest, trust: OutboundTrust) async throws(ACMETransportError) -> ACMEResponse
}

/// The reason why there is no response from a CA.
package struct ACMETransportError: Error, Sendable, CustomStringConvertible {
    package let description: String
    package let failure: TransportFailure

    package init(_ description: String, _ failure: TransportFailure = .transient) {
        self.description = description
        self.failure = failure
    }
}

/// A transport over the gateway's HTTP client, which its owner closes.
package struct OutboundTransport: ACMETransport {
    private let client: OutboundClient

    package init(_ client: OutboundClient) {
        self.client = client
    }

    package func send(
        _ request: ACMERequest,
        trust: OutboundTrust
    ) async throws(ACMETransportError) -> ACMEResponse {
        var fields = [(name: "Accept", value: request.accept)]
        if let type = request.contentType { fields.append(("Content-Type", type)) }
        // A repeated signed request does no harm: its nonce is accepted once (RFC 8555 §6.5), and the response to the
        // repetition, badNonce, makes ``ACMERequestCycle`` allow for a first one that was processed.
        let outbound = OutboundRequest(
            request.outboundMethod,
            request.url.text,
            fields: fields,
            body: request.body,
            trust: trust,
            mayRepeat: true
        )
        do throws(OutboundError) {
            let response = try await client.send(outbound)
            return ACMEResponse(
                status: response.status,
                fields: response.fields.all.map { ACMEResponse.Field($0.name, $0.value) },
                body: response.body
            )
        } catch {
            throw ACMETransportError(error.description, TransportFailure(error))
        }
    }
}

extension ACMERequest {
    fileprivate var outboundMethod: OutboundRequest.Method {
        switch method {
        case .get: .get
        case .head: .head
        case .post: .post
        }
    }
}

extension TransportFailure {
    fileprivate init(_ error: OutboundError) {
        self =
            switch error.code {
            case .tooLarge, .redirectRefused: .invalidResponse
            default: error.isTransient ? .transient : .permanent
            }
    }
}
