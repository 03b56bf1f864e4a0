import Testing

/// Expects a condition that awaits a value of which it uses a member: `#expect` does not compile with one.
func expect(
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async throws {
    let held = try await condition()
    #expect(held, sourceLocation: sourceLocation)
}
