/// The error of ``eventually(_:within:fileID:line:_:)`` and ``Observed/wait(_:within:fileID:line:until:)`` if the
/// condition does not hold in time.
package struct ConditionTimeout: Error, CustomStringConvertible {
    package let description: String

    init(_ expectation: String, _ limit: Duration, _ fileID: String, _ line: Int, last: String? = nil) {
        description =
            "\(fileID):\(line): not within \(limit): \(expectation)" + (last.map { "; last value: \($0)" } ?? "")
    }
}

/// Polls a condition until it holds.
///
/// - Parameters:
///   - expectation: The condition in words, for the error.
///   - limit: The time after which the condition has failed.
///   - fileID: The file of the caller, for the error.
///   - line: The line of the caller, for the error.
/// - Throws: ``ConditionTimeout`` after the limit, `CancellationError` if the task is cancelled, and what the condition
///   throws.
package func eventually(
    _ expectation: String = "the condition holds",
    within limit: Duration = .seconds(20),
    fileID: String = #fileID,
    line: Int = #line,
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw ConditionTimeout(expectation, limit, fileID, line) }
        try await Task.sleep(for: .milliseconds(2))
    }
}
