package import ACME
import Crypto
import Formats
package import Store

/// The records that replicas share about obtaining certificates: accounts at CAs, the state of each name, and pending
/// orders. They are written under the lease of the certificate, except accounts, which several names share.
///
/// | key | value |
/// |---|---|
/// | `acme/accounts/<fingerprint of the directory URL>` | ``ACME/AccountRecord`` |
/// | `acme/names/<last component of the certificate's key>` | ``ACME/RenewalState`` |
/// | `acme/orders/<the same>` | ``ACME/OrderRecord`` |
/// | `acme/authorities/<fingerprint of the directory URL>` | ``ACME/AuthorityHold`` |
/// | `acme/on-demand/budget` | ``ACME/IssuanceBudget`` |
package struct RenewalRecords: Sendable {
    package static let accounts: StoreKey = "acme/accounts"
    package static let names = CertificateSet.names
    package static let orders = CertificateSet.orders

    let store: any Store

    package init(_ store: any Store) {
        self.store = store
    }

    /// Returns the keys of the records of one certificate.
    static func keys(of certificate: StoreKey) -> [StoreKey] {
        [child(names, certificate.name), child(orders, certificate.name)]
    }

    // MARK: Accounts

    /// Returns the account at a CA, which is created if there is none. Its key is stored when this returns, so that all
    /// replicas use the same account.
    package func account(at directory: ACMEURL) async throws(StoreError) -> AccountRecord {
        let key = Self.child(Self.accounts, Fingerprint.of(directory.text))
        return try await store.retrying(key) { () throws(StoreError) in
            let stored: StoredValue?
            do throws(StoreError) {
                stored = try await store.readIfPresent(key)
            } catch {
                switch error.code {
                case .corrupt: throw Self.damagedAccount(error.place, "is damaged", directory)
                case .refused, .tooLarge: throw Self.damagedAccount(error.place, error.reason, directory)
                default: throw error
                }
            }
            if let stored {
                do throws(ACMEMessageError) {
                    return try AccountRecord(json: stored.bytes, place: key.path)
                } catch {
                    throw error.isLaterFormat
                        ? Self.newerFormat(error) : Self.damagedAccount(error.place, error.reason, directory)
                }
            }
            let account = AccountRecord(directory: directory)
            try await store.write(key, .create(account.json))
            return account
        }
    }

    private static func damagedAccount(_ place: String, _ reason: String, _ directory: ACMEURL) -> StoreError {
        StoreError(
            .corrupt,
            place,
            "\(reason); get a new account: hopgate acme forget-account \(shellWord(directory.text))"
        )
    }

    /// Stores an account in the place of its earlier record. Replicas that register the same key write the same value,
    /// so the last write wins.
    ///
    /// - Throws: `conflict` if the account was removed or another one has taken its place: a registration that was in
    ///   progress must not bring it back. The caller has to begin with ``account(at:)``.
    package func put(_ account: AccountRecord) async throws(StoreError) {
        let key = Self.child(Self.accounts, Fingerprint.of(account.directory.text))
        // The conflict that ends the registration is not one that is repeated.
        let result = try await store.retrying(key) { () throws(StoreError) -> Result<Void, StoreError> in
            let stored = try await store.readIfPresent(key)
            let present = stored.flatMap { try? AccountRecord(json: $0.bytes, place: key.path) }
            guard let stored, present?.key.pem == account.key.pem else {
                let reason = "the account was removed or replaced during its registration; it is registered again"
                return .failure(StoreError(.conflict(newest: stored?.version ?? 0), key.path, reason))
            }
            if stored.bytes != account.json { try await store.write(key, .replace(stored.version, account.json)) }
            return .success(())
        }
        try result.get()
    }

    /// Removes the account at a CA with its key. The next order registers a new one.
    ///
    /// - Returns: Whether there was one.
    package func removeAccount(at directory: ACMEURL) async throws(StoreError) -> Bool {
        try await store.removeIfPresent(Self.child(Self.accounts, Fingerprint.of(directory.text)))
    }

    // MARK: Names

    /// Returns the state of a name. A damaged state is treated as missing: it only delays attempts.
    package func state(of certificate: StoreKey) async throws(StoreError) -> RenewalState {
        try await record(Self.child(Self.names, certificate.name)) ?? RenewalState()
    }

    /// - Parameter lease: The lease of the certificate, which fences the write.
    package func put(
        _ state: RenewalState,
        of certificate: StoreKey,
        under lease: any StoreLease
    ) async throws(StoreError) {
        try await store.put(Self.child(Self.names, certificate.name), state.json, under: lease)
    }

    // MARK: Orders

    /// Returns the order that a predecessor left. A damaged order is treated as missing, and a new one is created.
    package func order(of certificate: StoreKey) async throws(StoreError) -> OrderRecord? {
        try await record(Self.child(Self.orders, certificate.name))
    }

    package func put(
        _ order: OrderRecord,
        of certificate: StoreKey,
        under lease: any StoreLease
    ) async throws(StoreError) {
        try await store.put(Self.child(Self.orders, certificate.name), order.json, under: lease)
    }

    package func removeOrder(of certificate: StoreKey, under lease: any StoreLease) async throws(StoreError) {
        try await store.removeIfPresent(Self.child(Self.orders, certificate.name), under: lease)
    }

    // MARK: Values

    func record<Record: StoredRecord>(_ key: StoreKey) async throws(StoreError) -> Record? {
        do {
            return try Self.parse(try await store.readIfPresent(key), key)
        } catch {
            guard error.code == .corrupt else { throw error }
            return nil
        }
    }

    /// Reads a record that no lease protects. One whose file is damaged, so that it has no version that a write could
    /// name, is removed.
    func readRemovingDamage(_ key: StoreKey) async throws(StoreError) -> StoredValue? {
        try await store.retrying(key) { () throws(StoreError) -> StoredValue? in
            do throws(StoreError) {
                return try await store.readIfPresent(key)
            } catch {
                guard error.code == .corrupt else { throw error }
            }
            // Conflicts if another process has replaced it.
            try await store.write(key, .removeDamaged)
            return nil
        }
    }

    /// Parses a record. A damaged one is treated as missing, but not one of a later release: it must not be replaced.
    static func parse<Record: StoredRecord>(_ stored: StoredValue?, _ key: StoreKey) throws(StoreError) -> Record? {
        guard let stored else { return nil }
        do throws(ACMEMessageError) {
            return try Record(json: stored.bytes, place: key.path)
        } catch {
            guard error.isLaterFormat else { return nil }
            throw newerFormat(error)
        }
    }

    /// Verifies that a record below one of the prefixes can be parsed.
    package static func validate(_ stored: StoredValue, at key: StoreKey) throws(StoreError) {
        do throws(ACMEMessageError) {
            switch key.parent {
            case accounts: _ = try AccountRecord(json: stored.bytes, place: key.path)
            case names: _ = try RenewalState(json: stored.bytes, place: key.path)
            case orders: _ = try OrderRecord(json: stored.bytes, place: key.path)
            case authorities: _ = try AuthorityHold(json: stored.bytes, place: key.path)
            default: _ = try IssuanceBudget(json: stored.bytes, place: key.path)
            }
        } catch {
            throw error.isLaterFormat ? newerFormat(error) : StoreError(.corrupt, key.path, "is damaged (\(error))")
        }
    }

    private static func newerFormat(_ error: ACMEMessageError) -> StoreError {
        StoreError(.newerFormat, error.place, "\(error.reason); \(StoreError.laterFormatRemedy)")
    }

    static func child(_ prefix: StoreKey, _ name: String) -> StoreKey {
        guard let key = try? prefix.child(name) else {
            preconditionFailure("a key's component is one below any prefix")
        }
        return key
    }
}

/// A short identifier of a text that is long or cannot be a key of the store: 32 hexadecimal digits of its SHA-256.
package enum Fingerprint {
    package static func of(_ text: String) -> String {
        Hex.string(SHA256.hash(data: Array(text.utf8)).prefix(16))
    }
}
