package import FoundationEssentials
package import NIOCore
package import Store

/// The certificates in the store: one value for each below `certs/`, written under the lease with the same name below
/// `locks/`.
package struct CertificateSet: Sendable {
    package static let prefix = StoreLayout.certificates
    /// The key of the development CA's root, which is not served itself.
    package static let developmentCA = StoreLayout.developmentCA

    /// The prefixes of the records of issuance, which are written under the lease of the certificate, too.
    static let names: StoreKey = "acme/names"
    static let orders: StoreKey = "acme/orders"

    package let store: any Store
    /// Returns the current keys of the cluster.
    let keyring: @Sendable () -> ClusterKeyring
    /// The time to live of the leases for changes by hand.
    private let leaseTime: TimeAmount
    /// Called if a lease is waited for; see ``Store/LeaseOptions/onWait``.
    package var onWait: (@Sendable (LeaseWait) -> Void)?

    package init(
        _ store: any Store,
        leaseTime: TimeAmount = .seconds(15),
        keyring: @escaping @Sendable () -> ClusterKeyring
    ) {
        self.store = store
        self.leaseTime = leaseTime
        self.keyring = keyring
    }

    /// The result of reading a key.
    package struct Finding: Sendable {
        /// The newest version, or `nil` if there is no certificate.
        package var version: UInt64?
        /// The certificate, or `nil` if there is none or it is not usable.
        package var certificate: ServerCertificate?
        package var origin: String?
        /// The directory URL of the CA that issued the certificate by ACME.
        package var authority: String?
        /// The reason why the certificate is not usable.
        package var rejection: CertificatesError?

        /// The finding, or the reason why the certificate is not usable.
        var usable: Result<Finding, CertificatesError> { rejection.map { .failure($0) } ?? .success(self) }

        /// Returns the status of the certificate with this key.
        func status(_ key: String) -> CertificateStatus {
            CertificateStatus(
                source: .store,
                place: key,
                version: version,
                origin: origin,
                authority: authority,
                certificate: certificate,
                problem: rejection
            )
        }
    }

    // MARK: Reading

    /// Reads a certificate. It is usable if its key fits its leaf and the TLS libraries take it. Dates are not judged.
    package func read(
        _ key: StoreKey,
        check: CertificateCheck = { _ in }
    ) async throws(StoreError) -> Finding {
        try await store.readIfPresent(key).map { finding($0, at: key, check: check) } ?? Finding()
    }

    /// Returns the certificate that gateways which start serve in the place of one that cannot be used: the newest
    /// earlier version that the store has kept, if it is valid.
    package func earlier(
        _ key: StoreKey,
        now: Date,
        within limit: TimeAmount,
        check: CertificateCheck
    ) async throws(StoreError) -> Finding? {
        for value in try await store.earlier(key, within: limit) {
            let found = finding(value, at: key, check: check)
            if let certificate = found.certificate, Double(certificate.notValidAfter) > now.timeIntervalSince1970 {
                return found
            }
        }
        return nil
    }

    /// Decodes and checks a stored certificate.
    package func finding(_ stored: StoredValue, at key: StoreKey, check: CertificateCheck) -> Finding {
        var finding = Finding(version: stored.version)
        do throws(CertificatesError) {
            let document: CertificateDocument
            do throws(StoreError) {
                document = try CertificateDocument(stored, at: key, keyring())
            } catch {
                throw CertificatesError(error)
            }
            finding.origin = document.source
            finding.authority = document.authority
            let certificate = try ServerCertificate(
                chain: document.chain,
                key: document.key,
                chainPath: key.path,
                keyPath: key.path
            )
            try certificate.require(check)
            finding.certificate = certificate
        } catch {
            finding.rejection = error
        }
        return finding
    }

    // MARK: Writing

    /// Waits for the lease under which a certificate, and the records of its issuance, are written.
    package func lease(
        of key: StoreKey,
        _ change: (inout LeaseOptions) -> Void = { _ in }
    ) async throws(StoreError) -> any StoreLease {
        var options = LeaseOptions(guards: [key] + [Self.names, Self.orders].compactMap { try? $0.child(key.name) })
        options.onWait = onWait
        change(&options)
        return try await store.lease(key, options)
    }

    /// The first of two events that were waited for.
    enum LeaseOr<Other: Sendable>: Sendable {
        case lease(any StoreLease)
        case other(Other)
    }

    /// Waits for the lease of a certificate, or for something that makes the lease unnecessary, such as the work of its
    /// holder.
    func lease<Other: Sendable>(
        of key: StoreKey,
        _ change: @escaping @Sendable (inout LeaseOptions) -> Void,
        or other: @escaping @Sendable () async throws(StoreError) -> Other
    ) async throws(StoreError) -> LeaseOr<Other> {
        let first = await withTaskGroup(of: Result<LeaseOr<Other>, StoreError>.self) { group in
            group.addTask {
                do throws(StoreError) {
                    return .success(.lease(try await lease(of: key, change)))
                } catch {
                    return .failure(error)
                }
            }
            group.addTask {
                do throws(StoreError) {
                    return .success(.other(try await other()))
                } catch {
                    return .failure(error)
                }
            }
            let first = await group.next()
            group.cancelAll()
            // Both may come at the same time. Other processes need not wait for the expiry of an unused lease.
            for await case .success(.lease(let unused)) in group { await unused.release() }
            return first
        }
        guard let first else { preconditionFailure("a group of two tasks has a first result") }
        return try first.get()
    }

    /// Stores a certificate in the place of the present one. Returns its version.
    ///
    /// - Parameters:
    ///   - origin: The publisher: `import`, `acme` or `development-ca`.
    ///   - authority: The directory URL of the CA that issued the certificate by ACME.
    ///   - now: The wall clock, for display only.
    package func write(
        _ certificate: ServerCertificate,
        as key: StoreKey,
        origin: String,
        authority: String? = nil,
        under lease: any StoreLease,
        now: Date = Date()
    ) async throws(StoreError) -> UInt64 {
        let document = CertificateDocument(certificate, source: origin, authority: authority, now: now)
        let bytes = document.sealed(at: key, with: keyring().signing)
        return try await store.put(key, bytes, under: lease)
    }

    /// Stores the newest version once more. Of a private key the version before the newest is kept, so that the key of
    /// an earlier certificate is deleted.
    ///
    /// - Returns: The new version.
    func rewrite(_ key: StoreKey, under lease: any StoreLease) async throws(StoreError) -> UInt64 {
        let newest = try await store.read(key)
        return try await store.write(key, .replace(newest.version, newest.bytes), under: lease)
    }

    /// Removes a certificate and the pending order of its name, with their private keys: a process that has ended after
    /// publishing a certificate leaves the key of the served one in the order.
    ///
    /// - Throws: `notFound` if there is neither.
    package func remove(_ key: StoreKey, under lease: any StoreLease) async throws(StoreError) {
        // The order first: after a failure the certificate is still there to be removed again.
        let hadOrder = try await store.removeIfPresent(Self.orders.child(key.name), under: lease)
        do {
            try await store.write(key, .remove(nil), under: lease)
        } catch {
            guard error.code == .notFound, hadOrder else { throw error }
        }
    }

    /// Performs a change by hand under the lease of a certificate, which is waited for a minute longer than it lives.
    package func withLease<Result: Sendable>(
        of key: StoreKey,
        _ body: (any StoreLease) async throws(StoreError) -> Result
    ) async throws(StoreError) -> Result {
        let lease = try await lease(of: key) { options in
            options.timeToLive = leaseTime
            options.patience = leaseTime + .minutes(1)
        }
        return try await lease.perform { () throws(StoreError) in try await body(lease) }
    }
}
