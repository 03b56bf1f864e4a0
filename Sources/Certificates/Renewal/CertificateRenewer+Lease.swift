import NIOCore
import Store
import Threads

/// Waiting for the lease of the certificate.
extension CertificateRenewer {
    /// The pause between two checks whether there is still something to do while another replica holds the lease.
    private static let checkPause = Duration.seconds(2)

    private enum WaitResult: Sendable {
        case lease(Result<any StoreLease, StoreError>)
        case nothingToDo
        case error(IssuanceError)
    }

    /// Waits for the lease for as long as there is something to do, since another replica may be doing it.
    ///
    /// - Returns: The lease, or `nil` if there is nothing to do any more or another replica holds the lease for long.
    func acquireLease() async throws(IssuanceError) -> (any StoreLease)? {
        let result = await withTaskGroup(of: WaitResult.self) { group in
            group.addTask { await self.waitForLease() }
            group.addTask { await self.waitUntilNothingToDo() }
            let first = await group.next() ?? .nothingToDo
            group.cancelAll()
            for await other in group {
                // Both tasks may finish at the same time.
                if case .lease(.success(let lease)) = other { await lease.release() }
            }
            return first
        }
        switch result {
        case .nothingToDo: return nil
        case .error(let error): throw error
        case .lease(.success(let lease)): return lease
        case .lease(.failure(let error)):
            guard error.code == .stalled, shared.store.state == .healthy else { throw IssuanceError(error) }
            return nil
        }
    }

    private func waitForLease() async -> WaitResult {
        let time = shared.settings.leaseTime
        do throws(StoreError) {
            let lease = try await shared.certificates.lease(of: key) { options in
                options.timeToLive = time
                // Long enough to detect that the holder is dead. Then other certificates get the permit.
                options.patience = .nanoseconds(time.nanoseconds * 2) + .seconds(5)
            }
            return .lease(.success(lease))
        } catch {
            return .lease(.failure(error))
        }
    }

    private func waitUntilNothingToDo() async -> WaitResult {
        while !Task.isCancelled {
            await signal.wait(atMost: Self.checkPause)
            do throws(IssuanceError) {
                guard decide(try await readSituation()).isAction else { return .nothingToDo }
            } catch {
                return .error(error)
            }
        }
        return .nothingToDo
    }
}
