import Formats
package import FoundationEssentials
import NIOCore
package import Store

/// Publication of certificates, each under the lease of its key.
extension CertificateSet {
    /// The time for which a command waits while another process publishes the same certificate.
    private static let patience = TimeAmount.minutes(1)

    /// Waits for the lease under which a certificate is published: the one with its key's name below `locks/`.
    package static func lease(
        of key: StoreKey,
        in store: any Store,
        _ change: (inout LeaseOptions) -> Void = { _ in }
    ) async throws(StoreError) -> any StoreLease {
        var options = LeaseOptions(fencing: key)
        change(&options)
        return try await store.lease(key, options)
    }

    /// Publishes a certificate as the next generation of its key.
    ///
    /// - Parameters:
    ///   - origin: The publisher: `import`, `acme` or `development-ca`.
    ///   - authority: The directory URL of the CA that issued the certificate by ACME.
    ///   - now: The wall clock, for display only.
    package static func publish(
        _ certificate: ServerCertificate,
        as key: StoreKey,
        origin: String,
        authority: String? = nil,
        in store: any Store,
        under lease: any StoreLease,
        now: Date = Date()
    ) async throws(StoreError) -> Generation {
        var meta: [String: JSONValue] = [
            "format": .integer(1),
            "source": .string(origin),
            "created": .string(now.formatted(.iso8601)),
            "names": .array(certificate.names.map { .string("\($0)") }),
            "not_after": .string(CertificateStatus.time(certificate.notValidAfter)),
            "sha256": .string(Hex.string(certificate.leafSHA256)),
        ]
        if let authority { meta["authority"] = .string(authority) }
        let files = [chainFile: certificate.chainPEM, keyFile: certificate.keyPEM, metaFile: meta.json]
        return try await store.publish(key, files, under: lease)
    }

    /// Publishes that a certificate is no longer to be served. It does so twice, so that no generation with the private
    /// key remains.
    package static func remove(
        _ key: StoreKey,
        in store: any Store,
        under lease: any StoreLease,
        now: Date = Date()
    ) async throws(StoreError) -> Generation {
        let meta: [String: JSONValue] = [
            "format": .integer(1),
            "source": .string(removed),
            "created": .string(now.formatted(.iso8601)),
        ]
        let files: [String: [UInt8]] = [chainFile: [], keyFile: [], metaFile: meta.json]
        _ = try await store.publish(key, files, under: lease)
        return try await store.publish(key, files, under: lease)
    }

    // MARK: By hand

    /// Publishes under a lease that is waited for up to a minute, and released afterwards.
    package static func publish(
        _ certificate: ServerCertificate,
        as key: StoreKey,
        origin: String,
        in store: any Store
    ) async throws(StoreError) -> Generation {
        let lease = try await lease(of: key, in: store) { $0.patience = patience }
        do throws(StoreError) {
            let generation = try await publish(certificate, as: key, origin: origin, in: store, under: lease)
            await lease.release()
            return generation
        } catch {
            await lease.release()
            throw error
        }
    }

    /// Removes under a lease that is waited for up to a minute, and released afterwards.
    package static func remove(_ key: StoreKey, in store: any Store) async throws(StoreError) -> Generation {
        let lease = try await lease(of: key, in: store) { $0.patience = patience }
        do throws(StoreError) {
            let generation = try await remove(key, in: store, under: lease)
            await lease.release()
            return generation
        } catch {
            await lease.release()
            throw error
        }
    }
}
