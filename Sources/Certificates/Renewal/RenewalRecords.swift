package import ACME
import Crypto
import Formats
package import Store

/// What replicas share about getting certificates: accounts at CAs, the state of each name, and orders under way. Written
/// under the lease of the certificate, but for accounts, which several names share.
///
/// | key | value |
/// |---|---|
/// | `acme/accounts/<fingerprint of the directory URL>` | ``AccountRecord`` |
/// | `acme/names/<last component of the certificate's key>` | ``RenewalState`` |
/// | `acme/orders/<the same>` | ``OrderRecord`` |
package struct RenewalRecords: Sendable {
    package static let accounts: StoreKey = "acme/accounts"
    package static let names: StoreKey = "acme/names"
    package static let orders: StoreKey = "acme/orders"
    private static let attempts = 8

    private let store: any Store

    package init(_ store: any Store) {
        self.store = store
    }

    // MARK: Accounts

    /// The account at a CA. Its key is in the store when this returns, whoever made it: so all replicas have one.
    package func account(at directory: ACMEURL) async throws(IssuanceError) -> AccountRecord {
        let key = Self.child(Self.accounts, Fingerprint.of(directory.text))
        for _ in 0..<Self.attempts {
            if let bytes = try await bytes(key) {
                do throws(ACMEMessageError) {
                    return try AccountRecord(json: bytes, place: key.path)
                } catch {
                    throw IssuanceError("\(error); remove \(key) from the store to get a new account")
                }
            }
            do throws(StoreError) {
                _ = try await store.create(key, AccountRecord(directory: directory).json)
            } catch {
                if case .exists = error.code { continue }
                throw IssuanceError(error)
            }
        }
        throw IssuanceError("\(key): changes faster than it can be read")
    }

    /// Two replicas that register the same key write the same: the last one counts.
    package func put(_ account: AccountRecord) async throws(IssuanceError) {
        try await put(Self.child(Self.accounts, Fingerprint.of(account.directory.text)), account.json)
    }

    // MARK: Names

    /// What is known of a name. What cannot be read as such counts for nothing: it only says when to try again.
    package func state(of certificate: StoreKey) async throws(IssuanceError) -> RenewalState {
        let key = Self.child(Self.names, certificate.name)
        guard let bytes = try await bytes(key) else { return RenewalState() }
        return (try? RenewalState(json: bytes, place: key.path)) ?? RenewalState()
    }

    /// - Parameter lease: of the certificate; who has lost it writes nothing.
    package func put(
        _ state: RenewalState,
        of certificate: StoreKey,
        under lease: any StoreLease
    ) async throws(IssuanceError) {
        try await check(lease)
        try await put(Self.child(Self.names, certificate.name), state.json)
    }

    // MARK: Orders

    /// What a predecessor has left. An order that cannot be read is none: a new one is made.
    package func order(of certificate: StoreKey) async throws(IssuanceError) -> OrderRecord? {
        let key = Self.child(Self.orders, certificate.name)
        guard let bytes = try await bytes(key) else { return nil }
        return try? OrderRecord(json: bytes, place: key.path)
    }

    package func put(
        _ order: OrderRecord,
        of certificate: StoreKey,
        under lease: any StoreLease
    ) async throws(IssuanceError) {
        try await check(lease)
        try await put(Self.child(Self.orders, certificate.name), order.json)
    }

    package func removeOrder(of certificate: StoreKey, under lease: any StoreLease) async throws(IssuanceError) {
        try await check(lease)
        do throws(StoreError) {
            try await store.remove(Self.child(Self.orders, certificate.name), expecting: nil)
        } catch {
            guard error.code == .notFound else { throw IssuanceError(error) }
        }
    }

    // MARK: Values

    /// A write cannot be fenced as a publication is; whoever slept between this and the write has slept long.
    private func check(_ lease: any StoreLease) async throws(IssuanceError) {
        do throws(StoreError) {
            try await lease.check()
        } catch {
            throw IssuanceError(error)
        }
    }

    private static func child(_ prefix: StoreKey, _ name: String) -> StoreKey {
        guard let key = try? prefix.child(name) else {
            preconditionFailure("a key's component is one below any prefix")
        }
        return key
    }

    private func bytes(_ key: StoreKey) async throws(IssuanceError) -> [UInt8]? {
        do throws(StoreError) {
            return try await store.read(key).bytes
        } catch {
            guard error.code == .notFound else { throw IssuanceError(error) }
            return nil
        }
    }

    /// Puts it in the place of whatever is there.
    private func put(_ key: StoreKey, _ bytes: [UInt8]) async throws(IssuanceError) {
        for _ in 0..<Self.attempts {
            do throws(StoreError) {
                let old: StoredValue
                do throws(StoreError) {
                    old = try await store.read(key)
                } catch {
                    guard error.code == .notFound else { throw error }
                    _ = try await store.create(key, bytes)
                    return
                }
                if old.bytes != bytes { _ = try await store.replace(key, expecting: old.version, bytes) }
                return
            } catch {
                switch error.code {
                case .exists, .conflict, .unconfirmed: continue
                default: throw IssuanceError(error)
                }
            }
        }
        throw IssuanceError("\(key): others change it all the time")
    }
}

/// Why nothing could be done about a certificate although no CA has refused it: the store, or what stands in it.
package struct IssuanceError: Error, Equatable, Sendable, CustomStringConvertible {
    package let description: String
    /// The lease was lost: somebody else goes on.
    package let isFenced: Bool

    package init(_ description: String) {
        self.description = description
        isFenced = false
    }

    init(_ error: StoreError) {
        description = error.description
        isFenced = error.code == .fenced
    }
}

/// A short name for a text that may be long, or that is no name of the store: 32 hexadecimal digits of its SHA-256.
package enum Fingerprint {
    package static func of(_ text: String) -> String {
        Hex.string(SHA256.hash(data: Array(text.utf8)).prefix(16))
    }
}
