package import Certificates
import FoundationEssentials
package import NIOCore
package import Store
import Synchronization

/// The examination of stored values: finds and removes those that exist and that gateways cannot use.
package struct ValueExamination: Sendable {
    private let certificates: CertificateSet
    private let keyring: ClusterKeyring

    package init(_ certificates: CertificateSet, _ keyring: ClusterKeyring) {
        self.certificates = certificates
        self.keyring = keyring
    }

    private var store: any Store { certificates.store }

    // MARK: One value

    /// Reads a value.
    ///
    /// - Returns: Its version, or `nil` if it cannot be read, and the reason why it cannot be used, or `nil` if it can.
    /// - Throws: `notFound` if there is none, or that the store does not answer.
    func examine(_ key: StoreKey) async throws(StoreError) -> (version: UInt64?, fault: StoreError?) {
        let reading: Result<StoredValue, StoreError>
        do {
            reading = .success(try await store.read(key))
        } catch {
            guard error.code != .notFound, !error.isTransient else { throw error }
            reading = .failure(error)
        }
        return (try? reading.get().version, fault(key, reading))
    }

    /// Removes a value that cannot be used, under the lease that protects it.
    ///
    /// - Throws: `refused` if it can be used, `newerFormat` if a later release can use it, `denied` if another user
    ///   can.
    package func remove(_ key: StoreKey) async throws(StoreError) {
        let removal = try await removal(of: key)
        let isGuarded = [StoreLayout.certificates, RenewalRecords.names, RenewalRecords.orders].contains(key.parent)
        guard isGuarded, let certificate = try? StoreLayout.certificates.child(key.name) else {
            try await store.write(key, removal)
            return
        }
        try await certificates.withLease(of: certificate) { lease throws(StoreError) in
            // The holder before may have replaced it, and the lease has written it again if that one was lost.
            _ = try await store.write(key, try await self.removal(of: key), under: lease)
        }
    }

    /// Returns the removal of a value that cannot be used, which conflicts if it is replaced meanwhile.
    private func removal(of key: StoreKey) async throws(StoreError) -> ValueWrite {
        let (version, fault) = try await examine(key)
        guard let fault else {
            throw StoreError(
                .refused,
                key.path,
                "can be used, so it is not removed; the commands for certificates, tokens and accounts are: "
                    + "hopgate cert remove, hopgate token revoke, hopgate acme forget-account"
            )
        }
        guard fault.code != .newerFormat, fault.code != .denied else { throw fault }
        // A file that is refused or too large has no content to compare.
        return version == nil && fault.code == .corrupt ? .removeDamaged : .remove(version)
    }

    /// Decodes a value as gateways do. Returns the reason why it cannot be used, with the remedy.
    private func fault(_ key: StoreKey, _ reading: Result<StoredValue, StoreError>) -> StoreError? {
        let stored: StoredValue
        switch reading {
        case .success(let value): stored = value
        case .failure(let error): return Self.withRemedy(error, key, in: store)
        }
        let path = store.place(of: stored.version, key)
        do throws(StoreError) {
            switch key.parent {
            case StoreLayout.certificates:
                let rejection = certificates.finding(stored, at: key, check: { _ in }).rejection
                if let rejection { throw StoreError(rejection.storeCode, key.path, rejection.reason) }
            // Only gateways and commands can seal a document, so its content is what they have written.
            case StoreLayout.credentials, StoreLayout.challenges:
                _ = try SealedDocument.open(stored, at: key, with: keyring)
            default: try RenewalRecords.validate(stored, at: key)
            }
            return StoreNumber.exhaustion(of: path)
        } catch {
            return Self.withRemedy(StoreError(error.code, path, error.reason), key, in: store)
        }
    }

    /// Returns the failure of a value with the remedy for it, unless it has the only one already.
    static func withRemedy(_ error: StoreError, _ key: StoreKey, in store: any Store) -> StoreError {
        if let exhaustion = StoreNumber.exhaustion(of: error.place) { return exhaustion }
        let remedy: String
        switch error.code {
        case .corrupt, .foreign, .tooLarge: remedy = StoreLayout.remedy(for: key)
        case .refused where error.place.hasPrefix("\(store.place(of: key))/"):
            remedy = "or remove the value with: hopgate store remove \(key)"
        default: return error
        }
        guard !error.reason.hasSuffix(remedy) else { return error }
        return StoreError(error.code, error.place, "\(error.reason); \(remedy)", fault: error.fault)
    }

    // MARK: All values

    /// The values of the store.
    package struct Findings: Sendable {
        /// The numbers of usable values by prefix.
        package var counts: [StoreKey: ValueCount] = [:]
        package var unusable: [UnusableFile] = []
        /// The reasons why values of some prefixes could not be read.
        package var failures: [StoreError] = []
        /// Whether the time sufficed, also for the earlier versions of unusable values.
        package var isComplete = true
    }

    /// Reads and decodes all values, side by side. Closes the store at the end of the time for it, and then returns
    /// what was examined.
    package func run(within limit: TimeAmount) async -> Findings {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do { try await Task.sleep(for: .nanoseconds(limit.nanoseconds)) } catch { return }
                store.close()
            }
            defer { group.cancelAll() }
            return await examineAll()
        }
    }

    private func examineAll() async -> Findings {
        let found = Mutex<(findings: Findings, faults: [(key: StoreKey, error: StoreError)])>((Findings(), []))
        for prefix in StoreLayout.all {
            found.withLock { $0.findings.counts[prefix] = ValueCount() }
            do {
                try await store.readAll(prefix) { part, _ in
                    let faults = part.compactMap { key, reading in fault(key, reading).map { (key, $0) } }
                    let gone = faults.count { $0.1.code == .notFound }
                    found.withLock { found in
                        found.findings.counts[prefix]?.count += part.count - faults.count
                        if gone > 0 { found.findings.counts[prefix]?.isComplete = false }
                        found.faults += faults.filter { $0.1.code != .notFound }
                    }
                }
            } catch {
                found.withLock { found in
                    found.findings.counts[prefix]?.isComplete = false
                    if error.code == .closed {
                        found.findings.isComplete = false
                    } else {
                        found.findings.failures.append(error)
                    }
                }
            }
        }
        var (findings, faults) = found.withLock { $0 }
        for (key, problem) in faults {
            var file = UnusableFile(key: key, path: problem.place, reason: problem.reason)
            if key.parent == StoreLayout.certificates {
                do throws(StoreError) {
                    // The version with the greatest number is in use itself if nothing else is wrong with it.
                    if StoreNumber.exhaustion(of: problem.place) != nil,
                        (try? await certificates.read(key))?.certificate != nil
                    {
                        findings.unusable.append(file)
                        continue
                    }
                    let found = try await certificates.earlier(key, now: Date(), within: .seconds(10), check: { _ in })
                    file.versionInUse = found?.version
                } catch {
                    // If the folder is refused, no version is used.
                    if error.isTransient || error.code == .closed {
                        file.reason += "; whether an earlier version is used in its place could not be read"
                        findings.isComplete = false
                    }
                }
            }
            findings.unusable.append(file)
        }
        return findings
    }
}

/// A number of values, which is a lower bound if they could not all be read in time.
package struct ValueCount: Equatable, Sendable, CustomStringConvertible {
    package internal(set) var count = 0
    package internal(set) var isComplete = true

    package init() {}

    package var description: String { isComplete ? "\(count)" : "at least \(count)" }
}

/// A file or folder of the store that gateways refuse, or a value that they cannot use.
package struct UnusableFile: Equatable, Sendable {
    /// The key of the value, or `nil` if the file is not the newest version of a value.
    package var key: StoreKey?
    package var path: String
    /// The reason and the remedy.
    package var reason: String
    /// The earlier version that gateways which start use in its place.
    package var versionInUse: UInt64?

    package var description: String {
        let inUse = versionInUse.map { "; version \($0) is used in its place" } ?? ""
        return (key.map { "\($0) (\(path)): " } ?? "\(path): ") + reason + inUse
    }

    /// Whether it comes before another one in a list that begins with the worst: values that nothing replaces, values,
    /// and other files.
    static func isWorse(_ left: UnusableFile, _ right: UnusableFile) -> Bool {
        (left.rank, left.key?.path ?? left.path) < (right.rank, right.key?.path ?? right.path)
    }

    private var rank: Int { key == nil ? 2 : versionInUse == nil ? 0 : 1 }
}
