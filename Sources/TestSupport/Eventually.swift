/// The error of ``eventually(_:within:_:)`` if the condition does not hold in time.
package struct ConditionTimeout: Error, CustomStringConvertible {
    package let description: String
}

/// Polls a condition until it holds.
///
/// - Parameters:
///   - expectation: The condition in words, for the error.
///   - limit: The time after which the condition has failed.
/// - Throws: ``ConditionTimeout`` after the limit, and what the condition throws.
package func eventually(
    _ expectation: String,
    within limit: Duration = .seconds(20),
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            throw ConditionTimeout(description: "\(expectation): not within \(limit)")
        }
        try await Task.sleep(for: .milliseconds(2))
    }
}
