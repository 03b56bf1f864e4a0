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
            create += [
                try timed { () throws(FileFault) in _ = try write(bytes, file, durable: false) }
            ]
            let open = try call { () throws(FileFault) in try files.open(file, .update) }
            sync += [try timed { () throws(FileFault) in try open.sync() }]
            link += [try timed { () throws(FileFault) in try files.link(file, to: "\(file).link") }]
            rename += [try timed { () throws(FileFault) in try files.rename(file, to: "\(file).moved") }]
            syncFolder += [try timed { () throws(FileFault) in try files.syncFolder(folder) }]
            list += [
                try timed { () throws(FileFault) in
                    try files.forceSync(folder)
                    _ = try files.list(folder, fresh: true, limit: 100_000)
                }
            ]
        }
        return [
            StoreTiming("create", create), StoreTiming("rename", rename), StoreTiming("link", link),
            StoreTiming("fsync", sync), StoreTiming("fsync of a folder", syncFolder), StoreTiming("list", list),
        ]
    }

    private func timed(_ body: () throws(FileFault) -> Void) throws(StoreError) -> TimeAmount {
        let began = now()
        try call(body)
        return now() - began
    }
}
