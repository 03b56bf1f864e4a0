package import NIOCore

/// The durations of one kind of file-system call, called repeatedly.
package struct StoreTiming: Equatable, Sendable {
    package let operation: String
    package let minimum: TimeAmount
    package let median: TimeAmount
    package let maximum: TimeAmount

    /// - Parameter durations: At least one duration.
    package init(_ operation: String, _ durations: [TimeAmount]) {
        let sorted = durations.sorted()
        self.operation = operation
        minimum = sorted[0]
        median = sorted[sorted.count / 2]
        maximum = sorted[sorted.count - 1]
    }
}

extension Volume {
    /// Measures the calls on which the store's speed depends, in a temporary folder that is removed again.
    ///
    /// - Parameter rounds: The number of rounds, at least one.
    package func timings(rounds: Int = 20) throws(StoreError) -> [StoreTiming] {
        let folder = "\(Self.temporaries)/\(nonce())"
        defer { erase(folder) }
        try ensureFolder(folder)
        let bytes = [UInt8](repeating: 0x48, count: 1_024)
        var create: [TimeAmount] = []
        var sync: [TimeAmount] = []
        var link: [TimeAmount] = []
        var rename: [TimeAmount] = []
        var syncFolder: [TimeAmount] = []
        var list: [TimeAmount] = []
        for round in 0..<rounds {
            let file = "\(folder)/\(round)"
            create += [try timed { try write(bytes, file, durable: false) }]
            let open = try call { () throws(FileFault) in try files.open(file, .update) }
            sync += [try timed { try open.sync() }]
            link += [try timed { try files.link(file, to: "\(file).link") }]
            rename += [try timed { try files.rename(file, to: "\(file).moved") }]
            syncFolder += [try timed { try files.syncFolder(folder) }]
            list += [try timed { _ = try names(in: folder, fresh: true) }]
        }
        return [
            StoreTiming("create", create), StoreTiming("rename", rename), StoreTiming("link", link),
            StoreTiming("fsync", sync), StoreTiming("fsync of a folder", syncFolder), StoreTiming("list", list),
        ]
    }

    private func timed(_ body: () throws -> Void) throws(StoreError) -> TimeAmount {
        let began = now()
        try attempt(body)
        return now() - began
    }
}
