extension VolumeStore {
    package func clusterKey(_ id: String, namedBy document: String) async throws(StoreError) -> ClusterKey? {
        try await perform(on: readers, of: "\(ClusterDocument.keyFolder)/\(id)") { volume throws(StoreError) in
            try volume.readKey(id, namedBy: document)
        }
    }

    package func createClusterKey(_ key: ClusterKey) async throws(StoreError) {
        try await perform(on: writer, .write) { volume throws(StoreError) in try volume.createKey(key) }
    }

    package func removeClusterKey(_ id: String) async throws(StoreError) {
        try await perform(on: writer, .write) { volume throws(StoreError) in try volume.removeKey(id) }
    }
}
