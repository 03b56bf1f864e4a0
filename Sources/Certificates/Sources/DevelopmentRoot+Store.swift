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
    package static func obtain(in set: CertificateSet, now: Date = Date()) async throws(CertificatesError)
        -> DevelopmentRoot
    {
        if let root = try await read(in: set) { return root }
        let key = CertificateSet.developmentCA
        let first: CertificateSet.LeaseOr<DevelopmentRoot>
        do throws(StoreError) {
            first = try await set.lease(of: key) {
                $0.timeToLive = timeToLive
                $0.patience = patience
            } or: { () throws(StoreError) in
                // A failure of the store is reported by the wait for the lease.
                while (try? await Task.sleep(for: pause)) != nil {
                    if let root = try? await read(in: set) { return root }
                }
                throw StoreError(.closed, key.path, "the wait was cancelled")
            }
        } catch {
            throw failed(error)
        }
        switch first {
        case .other(let root): return root
        case .lease(let lease):
            return try await lease.perform { () throws(CertificatesError) in
                try await make(in: set, under: lease, now: now)
            }
        }
    }

    /// The result of ``replace(in:now:)``.
    package struct Replacement: Sendable {
        package let root: DevelopmentRoot
        /// Whether there was a root before.
        package let hadRoot: Bool
        /// The reason why the key of that root may still be on the volume.
        package let undeleted: StoreError?
    }

    /// Creates a root in the place of the present one, which may be damaged, and then deletes the key of that one.
    package static func replace(in set: CertificateSet, now: Date = Date()) async throws(CertificatesError)
        -> Replacement
    {
        let key = CertificateSet.developmentCA
        let made = try issue(now: now)
        let written: (version: UInt64, hadRoot: Bool, undeleted: StoreError?)
        do throws(StoreError) {
            written = try await set.withLease(of: key) { lease throws(StoreError) in
                var hadRoot = true
                do throws(StoreError) {
                    hadRoot = try await set.store.readIfPresent(key) != nil
                } catch {
                    guard !error.isTransient else { throw error }
                }
                let version = try await set.write(made, as: key, origin: origin, under: lease, now: now)
                guard hadRoot else { return (version, false, nil) }
                do throws(StoreError) {
                    return (try await set.rewrite(key, under: lease), true, nil)
                } catch {
                    return (version, true, error)
                }
            }
        } catch {
            throw failed(error)
        }
        return Replacement(
            root: try DevelopmentRoot(made, version: written.version),
            hadRoot: written.hadRoot,
            undeleted: written.undeleted
        )
    }

    /// Returns the root, or `nil` if there is none.
    package static func read(in set: CertificateSet) async throws(CertificatesError) -> DevelopmentRoot? {
        let key = CertificateSet.developmentCA
        let finding: CertificateSet.Finding
        do throws(StoreError) {
            finding = try await set.read(key)
        } catch {
            // No command writes below a folder that is refused, or after the greatest version.
            let isOfVersion =
                error.place.hasPrefix("\(set.store.place(of: key))/") && StoreNumber.exhaustion(of: error.place) == nil
            switch error.code {
            case .corrupt: throw unusable(error.description)
            case .refused, .tooLarge: throw unusable(error.description, isReplaceable: isOfVersion)
            case .newerFormat: throw unusable(error.description, isReplaceable: false)
            default: throw CertificatesError(.store(error.code), error.place, "the development root: \(error.reason)")
            }
        }
        guard let version = finding.version else { return nil }
        guard let pair = finding.certificate else { throw unusable(finding.rejection?.description ?? "it is damaged") }
        return try DevelopmentRoot(pair, version: version)
    }

    /// - Parameter isReplaceable: Whether `hopgate ca --replace` can write a new root. Otherwise `reason` has the
    ///   remedy.
    private static func unusable(_ reason: String, isReplaceable: Bool = true) -> CertificatesError {
        let key = CertificateSet.developmentCA
        let remedy = StoreLayout.remedy(for: key)
        let ending = reason.hasSuffix(remedy) || !isReplaceable ? "" : "; \(remedy)"
        return CertificatesError(.malformed, key.path, "the development root cannot be used: \(reason)\(ending)")
    }

    private static func make(
        in set: CertificateSet,
        under lease: any StoreLease,
        now: Date
    ) async throws(CertificatesError) -> DevelopmentRoot {
        // The previous holder of the lease may have published it.
        if let root = try await read(in: set) { return root }
        let key = CertificateSet.developmentCA
        let made = try issue(now: now)
        do throws(StoreError) {
            _ = try await set.write(made, as: key, origin: origin, under: lease, now: now)
        } catch {
            throw failed(error)
        }
        guard let root = try await read(in: set) else {
            throw failed(StoreError(.transient, key.path, "it was published and cannot be found"))
        }
        return root
    }

    private static func failed(_ error: StoreError) -> CertificatesError {
        CertificatesError(.store(error.code), error.place, "the development root cannot be made: \(error.reason)")
    }
}
