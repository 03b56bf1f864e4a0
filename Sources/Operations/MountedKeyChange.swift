package import Store

/// The progress of a change of mounted keys, which the operator makes in their file.
package struct MountedKeyChange: Equatable, Sendable {
    package enum Step: Equatable, Sendable {
        /// The file holds one key: a change begins with adding another one.
        case add
        /// These keys verify and have not signed yet: one of them is to become the first.
        case promote([String])
        /// The first key is new: what others have sealed is to be sealed with it.
        case reseal
        /// The first key has sealed cluster.json, and these are older: their lines are to be removed.
        case remove([String])
    }

    /// The ids of the keys in the file. The first signs.
    package let keys: [String]
    package let step: Step

    /// Determines the next step.
    ///
    /// - Parameter cluster: The cluster with the mounted keys, as it was read from the store.
    package init(_ cluster: ClusterIdentity) {
        keys = cluster.keyring.keys.map(\.id)
        let others = Array(keys.dropFirst())
        // cluster.json lists the keys that were mounted when it was sealed.
        let new = others.filter { !cluster.listedKeys.contains($0) }
        step =
            if others.isEmpty {
                .add
            } else if cluster.sealedBy != keys[0] {
                .reseal
            } else {
                new.isEmpty ? .remove(others) : .promote(new)
            }
    }
}
