import ACME
import Certificates
import Synchronization

/// A task of `dns-01`, or of another kind, for this name.
func hookTask(_ name: String, _ token: String = "token", kind: ChallengeKind = .dns01) -> ChallengeTask {
    ChallengeTask(kind, CertificateName(name)!, token: token, key: AccountKey(raw: [UInt8](repeating: 7, count: 32))!)
}

/// The message of the error that the body throws; empty if it throws none.
func message(_ body: () async throws(PresentationError) -> Void) async -> String {
    do throws(PresentationError) {
        try await body()
        return ""
    } catch {
        return error.description
    }
}

/// A DNS in memory, with what was done to it.
final class MemoryHook: DNSHook {
    private struct State {
        var records: [String: Set<String>] = [:]
        var running = 0
        var mostRunning = 0
        var fails: Set<String> = []
    }

    private let state = Mutex(State())

    var records: [String: Set<String>] { state.withLock { $0.records } }
    var mostRunning: Int { state.withLock { $0.mostRunning } }

    /// - Parameter name: calls for the record of this name fail from now on.
    func fail(_ name: String) { state.withLock { _ = $0.fails.insert(name) } }

    func perform(_ action: HookAction, _ task: ChallengeTask) async throws(PresentationError) {
        state.withLock { state in
            state.running += 1
            state.mostRunning = max(state.mostRunning, state.running)
        }
        for _ in 0..<10 { await Task.yield() }
        let fails = state.withLock { state in
            state.running -= 1
            return state.fails.contains(task.recordName)
        }
        if fails { throw PresentationError("no \(task.recordName)") }
        state.withLock { state in
            switch action {
            case .present: state.records[task.recordName, default: []].insert(task.recordValue)
            case .cleanUp: state.records[task.recordName, default: []].remove(task.recordValue)
            }
        }
    }
}
