package import FoundationEssentials
import NIOCore
package import Store

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
    package static func obtain(in store: any Store, now: Date = Date()) async throws(CertificatesError)
        -> DevelopmentRoot
    {
        if let root = try await read(in: store) { return root }
        switch try await raceForLease(in: store) {
        case .root(let root): return root
        case .lease(let lease):
            let made = await make(in: store, under: lease, now: now)
            await lease.release()
            return try made.get()
        }
    }

    /// Returns the root, or `nil` if there is none.
    package static func read(in store: any Store) async throws(CertificatesError) -> DevelopmentRoot? {
        let key = CertificateSet.developmentCA
        var finding = CertificateSet.Finding()
        do throws(StoreError) {
            // The second pass finds a root that was published between the two reads of the first.
            for _ in 0..<2 {
                finding = try await CertificateSet.newest(key, in: store) { _ in }
                guard finding.certificate == nil else { break }
                guard try await CertificateSet.highestGeneration(key, in: store) != nil else { return nil }
            }
        } catch {
            throw CertificatesError(.store(error.code), error.place, "the development root: \(error.reason)")
        }
        guard let pair = finding.certificate, let generation = finding.generation else {
            let reason = finding.rejection.map { "\($0)" } ?? "it lacks files, or others may read them"
            throw CertificatesError(
                .malformed,
                key.path,
                """
                the development root cannot be used: \(reason); restore it from a backup, or remove the folder \(key) to \
                get a new root, which every client has to be told to trust
                """
            )
        }
        let folder = (store as? VolumeStore)?.volume.files.root
        let path = folder.map { "\($0)/\(key)/\(generation)/\(CertificateSet.chainFile)" }
        return try DevelopmentRoot(pair, generation: generation, path: path)
    }

    private enum Outcome: Sendable {
        case root(DevelopmentRoot)
        case lease(any StoreLease)
    }

    /// Waits for the lease, and for the root that its holder may publish meanwhile.
    private static func raceForLease(in store: any Store) async throws(CertificatesError) -> Outcome {
        let outcome = await withTaskGroup(of: Result<Outcome, CertificatesError>.self) { group in
            group.addTask { await waitForLease(in: store) }
            group.addTask { await waitForRoot(in: store) }
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

    private static func waitForLease(in store: any Store) async -> Result<Outcome, CertificatesError> {
        do throws(StoreError) {
            let lease = try await CertificateSet.lease(of: CertificateSet.developmentCA, in: store) {
                $0.timeToLive = timeToLive
                $0.patience = patience
            }
            return .success(.lease(lease))
        } catch {
            return .failure(failed(error))
        }
    }

    private static func waitForRoot(in store: any Store) async -> Result<Outcome, CertificatesError> {
        // A failure of the store is reported by the other task.
        while (try? await Task.sleep(for: pause)) != nil {
            if let root = try? await read(in: store) { return .success(.root(root)) }
        }
        return .failure(failed(StoreError(.closed, CertificateSet.developmentCA.path, "the wait was cancelled")))
    }

    private static func make(
        in store: any Store,
        under lease: any StoreLease,
        now: Date
    ) async -> Result<DevelopmentRoot, CertificatesError> {
        let key = CertificateSet.developmentCA
        do throws(CertificatesError) {
            // The previous holder of the lease may have published it.
            if let root = try await read(in: store) { return .success(root) }
            let made = try issue(now: now)
            do throws(StoreError) {
                _ = try await CertificateSet.publish(made, as: key, origin: origin, in: store, under: lease, now: now)
            } catch {
                return .failure(failed(error))
            }
            if let root = try await read(in: store) { return .success(root) }
            return .failure(failed(StoreError(.transient, key.path, "it was published and cannot be found")))
        } catch {
            return .failure(error)
        }
    }

    private static func failed(_ error: StoreError) -> CertificatesError {
        CertificatesError(.store(error.code), error.place, "the development root cannot be made: \(error.reason)")
    }
}
