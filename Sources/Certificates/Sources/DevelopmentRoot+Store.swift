package import FoundationEssentials
import NIOCore
import Store

extension DevelopmentRoot {
    /// The time for which a process that was killed while it created the root can delay the others.
    static let timeToLive = TimeAmount.seconds(4)
    private static let patience = TimeAmount.seconds(30)
    /// The pause between two checks whether the root exists.
    private static let pause = Duration.milliseconds(100)

    /// Reads the root, or creates it under the lease if there is none. Of several processes that start together one
    /// creates it and the others read it.
    ///
    /// - Throws: Also if a root exists and cannot be used. It is never replaced silently, because clients trust it.
    package static func obtain(in set: CertificateSet, now: Date = Date()) async throws(CertificatesError)
        -> DevelopmentRoot
    {
        if let root = try await read(in: set) { return root }
        switch try await raceForLease(in: set) {
        case .root(let root): return root
        case .lease(let lease):
            let made = await make(in: set, under: lease, now: now)
            await lease.release()
            return try made.get()
        }
    }

    /// Returns the root, or `nil` if there is none.
    package static func read(in set: CertificateSet) async throws(CertificatesError) -> DevelopmentRoot? {
        let key = CertificateSet.developmentCA
        let finding: CertificateSet.Finding
        do throws(StoreError) {
            finding = try await set.read(key)
        } catch {
            switch error.code {
            case .corrupt, .refused, .tooLarge, .newerFormat: throw unusable(error.description)
            default: throw CertificatesError(.store(error.code), error.place, "the development root: \(error.reason)")
            }
        }
        guard let version = finding.version else { return nil }
        guard let pair = finding.certificate else { throw unusable(finding.rejection?.description ?? "it is damaged") }
        return try DevelopmentRoot(pair, version: version)
    }

    private static func unusable(_ reason: String) -> CertificatesError {
        let key = CertificateSet.developmentCA
        return CertificatesError(
            .malformed,
            key.path,
            """
            the development root cannot be used: \(reason); restore it from a backup, or get a new one, which every client \
            has to be told to trust: hopgate ca --replace
            """
        )
    }

    private enum Outcome: Sendable {
        case root(DevelopmentRoot)
        case lease(any StoreLease)
    }

    /// Waits for the lease, and for the root that its holder may publish meanwhile.
    private static func raceForLease(in set: CertificateSet) async throws(CertificatesError) -> Outcome {
        let outcome = await withTaskGroup(of: Result<Outcome, CertificatesError>.self) { group in
            group.addTask { await waitForLease(in: set) }
            group.addTask { await waitForRoot(in: set) }
            let first = await group.next()
            group.cancelAll()
            // A lease that was acquired nevertheless is released, so that other waiting processes need not wait for its
            // expiry.
            for await late in group {
                if case .success(.lease(let lease)) = late { await lease.release() }
            }
            return first
        }
        guard let outcome else { preconditionFailure("a group of two tasks has a first result") }
        return try outcome.get()
    }

    private static func waitForLease(in set: CertificateSet) async -> Result<Outcome, CertificatesError> {
        do throws(StoreError) {
            let lease = try await set.lease(of: CertificateSet.developmentCA) {
                $0.timeToLive = timeToLive
                $0.patience = patience
            }
            return .success(.lease(lease))
        } catch {
            return .failure(failed(error))
        }
    }

    private static func waitForRoot(in set: CertificateSet) async -> Result<Outcome, CertificatesError> {
        // A failure of the store is reported by the other task.
        while (try? await Task.sleep(for: pause)) != nil {
            if let root = try? await read(in: set) { return .success(.root(root)) }
        }
        return .failure(failed(StoreError(.closed, CertificateSet.developmentCA.path, "the wait was cancelled")))
    }

    private static func make(
        in set: CertificateSet,
        under lease: any StoreLease,
        now: Date
    ) async -> Result<DevelopmentRoot, CertificatesError> {
        let key = CertificateSet.developmentCA
        do throws(CertificatesError) {
            // The previous holder of the lease may have published it.
            if let root = try await read(in: set) { return .success(root) }
            let made = try issue(now: now)
            do throws(StoreError) {
                _ = try await set.write(made, as: key, origin: origin, under: lease, now: now)
            } catch {
                return .failure(failed(error))
            }
            if let root = try await read(in: set) { return .success(root) }
            return .failure(failed(StoreError(.transient, key.path, "it was published and cannot be found")))
        } catch {
            return .failure(error)
        }
    }

    private static func failed(_ error: StoreError) -> CertificatesError {
        CertificatesError(.store(error.code), error.place, "the development root cannot be made: \(error.reason)")
    }
}
