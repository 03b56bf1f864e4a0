import Store
import Threads

/// Waiting for the lease of the certificate.
extension CertificateRenewer {
    /// The pause between two checks whether there is still something to do while another replica holds the lease.
    private static let checkPause = Duration.seconds(2)

    /// Waits for the lease for as long as there is something to do, since another replica may be doing it.
    ///
    /// - Returns: The lease, or `nil` if there is nothing to do any more or another replica holds the lease for long.
    func acquireLease() async throws(StoreError) -> (any StoreLease)? {
        defer { updateStatus { $0.leaseWait = nil } }
        do {
            let first = try await shared.certificates.lease(of: key) { options in
                self.shared.leaseTimes(&options)
                options.onWait = { wait in self.updateStatus { $0.leaseWait = wait } }
            } or: { () throws(StoreError) in
                try await self.waitUntilNothingToDo()
            }
            return if case .lease(let lease) = first { lease } else { nil }
        } catch {
            guard error.code == .stalled, shared.store.state == .healthy else { throw error }
            return nil
        }
    }

    private func waitUntilNothingToDo() async throws(StoreError) {
        while !Task.isCancelled {
            await signal.wait(atMost: Self.checkPause)
            guard decide(try await readSituation()).isAction else { return }
        }
    }
}
