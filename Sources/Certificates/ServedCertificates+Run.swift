import FoundationEssentials
import Store

extension ServedCertificates {
    /// Pause between two readings of the configured files, in milliseconds; with the reading itself they are looked at
    /// at least every two seconds.
    package static let interval: Int32 = 1_800
    /// How often what the store could not answer is asked again, and the development leaf's age is looked at.
    private static let tick = Duration.seconds(1)
    /// How often a root that could not be had is asked for again.
    private static let rootPause = Duration.seconds(5)

    /// Keeps the certificates current until the task is cancelled. Run it once.
    ///
    /// - Parameters:
    ///   - onChange: called with each new snapshot, which already is the current one, one call after the other.
    ///   - onProblem: called once for each new problem.
    package func run(
        onChange: @escaping @Sendable (CertificateSnapshot) -> Void,
        onProblem: @escaping @Sendable (CertificatesError) -> Void
    ) async {
        // Files may lie on a volume that hangs: a thread of their own waits for it.
        let thread: PollingThread? =
            configured.isEmpty
            ? nil
            : PollingThread(name: "certificates", intervalMilliseconds: Self.interval) { [configured, changed] in
                if configured.reload() { changed.send() }
            }
        defer { thread?.stop() }
        // What went wrong at the start is told now.
        changed.send()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.watchStore() }
            group.addTask { await self.readStore() }
            group.addTask { await self.watchTime() }
            group.addTask { await self.obtainRoot() }
            group.addTask {
                for await _ in self.changed.stream {
                    let (snapshot, problems) = self.rebuild()
                    problems.forEach(onProblem)
                    if let snapshot { onChange(snapshot) }
                }
            }
        }
    }

    private func watchStore() async {
        for await changes in store.changes(CertificateSet.prefix) {
            if stored.enqueue(changes) { pending.send() }
            if let development, changes.contains(where: { $0.key == CertificateSet.developmentCA }) {
                if await development.reload() { changed.send() }
            }
        }
    }

    private func readStore() async {
        for await _ in pending.stream {
            await stored.readPending()
            changed.send()
        }
    }

    private func watchTime() async {
        while (try? await Task.sleep(for: Self.tick)) != nil {
            if stored.hasPending { pending.send() }
            guard let development else { continue }
            if development.needsReload, await development.reload() { changed.send() }
            if development.needsRenewal(now: Date()) { changed.send() }
        }
    }

    /// A gateway that started with other certificates only gets its root when the store is well again.
    private func obtainRoot() async {
        guard let development else { return }
        while development.root == nil, (try? await Task.sleep(for: Self.rootPause)) != nil {
            try? await development.obtain(now: Date())
            changed.send()
        }
    }
}

/// Wakes one task, once for any number of calls that it did not get to see.
struct Signal: Sendable {
    let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() {
        (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    func send() { continuation.yield() }
}
