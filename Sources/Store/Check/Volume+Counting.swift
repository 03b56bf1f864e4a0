package import NIOCore

/// A number of values, which is a lower bound if they could not all be read in time.
package struct ValueCount: Equatable, Sendable, CustomStringConvertible {
    package internal(set) var count = 0
    package internal(set) var isComplete = true

    package init() {}

    package var description: String { isComplete ? "\(count)" : "at least \(count)" }
}

extension Volume {
    /// Counts the values one level below a prefix. Removed keys do not count; values that cannot be read make the result
    /// incomplete.
    package func countValues(_ prefix: StoreKey, until end: NIODeadline) throws(StoreError) -> ValueCount {
        var result = ValueCount()
        for key in try unsortedKeys(prefix) {
            guard now() < end else {
                result.isComplete = false
                break
            }
            do throws(StoreError) {
                if try value(of: newest(key, fresh: false), key) != nil { result.count += 1 }
            } catch {
                result.isComplete = false
            }
        }
        return result
    }
}
