import Outbound
import Testing

/// Sends a request that must fail and returns its error, or records an issue and returns `nil`.
func failure(
    _ client: OutboundClient,
    _ request: OutboundRequest,
    sourceLocation: SourceLocation = #_sourceLocation
) async -> OutboundError? {
    do throws(OutboundError) {
        let response = try await client.send(request)
        Issue.record("answered with \(response.status)", sourceLocation: sourceLocation)
        return nil
    } catch {
        return error
    }
}

/// Runs `body` with a client and closes the client afterwards, which waits for its thread to end.
func withClient<Value>(
    usesProxy: Bool = false,
    limits: (inout OutboundLimits) -> Void = { _ in },
    _ body: (OutboundClient) async throws -> Value
) async rethrows -> Value {
    var chosen = OutboundLimits()
    limits(&chosen)
    let client = OutboundClient(userAgent: "hopgate/test", usesProxy: usesProxy, limits: chosen)
    do {
        let value = try await body(client)
        await client.close()
        return value
    } catch {
        await client.close()
        throw error
    }
}
