import NIOCore
import Store

extension Store {
    /// The newest versions of all values below a prefix, or why one cannot be read; removed ones are left out.
    ///
    /// - Throws: when the prefix cannot be listed, or when the store answers no more: `stalled`, `busy`, `gone`,
    ///   `closed`.
    func readEach(
        _ prefix: StoreKey,
        within limit: TimeAmount = .seconds(30)
    ) async throws(StoreError) -> [StoreKey: Result<StoredValue, StoreError>] {
        let deadline = NIODeadline.now() + limit
        let keys = try await list(prefix)
        var values: [StoreKey: Result<StoredValue, StoreError>] = [:]
        values.reserveCapacity(keys.count)
        for key in keys {
            guard NIODeadline.now() < deadline else {
                throw StoreError(.stalled, prefix.path, "the store does not answer in time")
            }
            do throws(StoreError) {
                values[key] = .success(try await read(key))
            } catch {
                switch error.code {
                case .notFound: break
                case .stalled, .busy, .gone, .closed: throw error
                default: values[key] = .failure(error)
                }
            }
        }
        return values
    }
}
