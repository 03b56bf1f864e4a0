import FoundationEssentials
import Threads

extension ServedCertificates {
    /// The pause between two readings of the configured files. Including the reading itself they are
    /// checked at least every two seconds.
    package static let interval = Duration.milliseconds(1_800)
    /// The pause between two checks of the development CA, whose root may have changed and whose leaf gets old.
    private static let tick = Duration.seconds(1)
    /// The pause between two attempts to obtain the development root.
    private static let rootPause = Duration.seconds(5)

    /// Keeps the certificates current until the task is cancelled. Called once.
    ///
    /// - Parameters:
    ///   - onChange: Called with each new snapshot, after it became the current one. Calls do not overlap.
    ///   - onProblem: Called once for each new problem.
    package func run(
        onChange: @escaping @Sendable (CertificateSnapshot) -> Void,
        onProblem: @escaping @Sendable (CertificatesError) -> Void
    ) async {
        // Files may be on a volume that hangs, so a dedicated thread reads them.
        let thread: PollingThread? =
            configured.isEmpty
            ? nil
            : PollingThread(name: "certificates", interval: Self.interval) { [configured, changed] in
                if configured.reload() { changed.send() }
            }
        defer { thread?.stop() }
        // Reports the problems of the start.
        changed.send()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.watchTime(thread) }
            group.addTask { await self.obtainRoot() }
            group.addTask {
                while await self.changed.wait() {
                    let (snapshot, problems) = self.rebuild()
                    problems.forEach(onProblem)
                    if let snapshot { onChange(snapshot) }
                }
            }
        }
    }

    private func watchTime(_ thread: PollingThread?) async {
        repeat {
            // Repeated until there is a thread; the failures are counted.
            _ = thread?.start()
            if let development {
                if development.needsReload, await development.reload() { changed.send() }
                if development.needsRenewal(now: Date()) { changed.send() }
            }
        } while (try? await Task.sleep(for: Self.tick)) != nil
    }

    /// Obtains the root once the store works again, if the gateway started without it.
    private func obtainRoot() async {
        guard let development else { return }
        while development.root == nil, (try? await Task.sleep(for: Self.rootPause)) != nil {
            try? await development.obtain(now: Date())
            changed.send()
        }
    }
}
