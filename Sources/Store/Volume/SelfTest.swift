package import NIOCore

/// What a volume can do, how long it takes, and what it cannot. Made at start and by `store check`.
package struct SelfTestReport: Sendable {
    package struct Step: Sendable {
        package let name: String
        package let duration: TimeAmount
        /// What went wrong, and what that means.
        package let problem: String?
    }

    package internal(set) var steps: [Step] = []

    package var problems: [String] { steps.compactMap { step in step.problem.map { "\(step.name): \($0)" } } }
    package var isUsable: Bool { problems.isEmpty }
}

extension Volume {
    /// Tries everything that the store does, in a folder of its own which is removed again. Never throws: what fails is
    /// in the report.
    package func selfTest() -> SelfTestReport {
        var report = SelfTestReport()
        let folder = "\(Self.temporaries)/\(nonce())"
        defer { erase(folder) }
        let bytes = Array("hopgate self-test \(nonce())\n".utf8)
        let first = "\(folder)/first"
        let second = "\(folder)/second"
        report.step("make a folder", self) { () throws(StoreError) in try ensureFolder(folder) }
        guard report.isUsable else { return report }
        report.step("create and write", self) { () throws(StoreError) in
            try call { () throws(FileFault) in _ = try write(bytes, first, durable: false) }
        }
        report.step("fsync of a file", self) { () throws(StoreError) in
            try call { () throws(FileFault) in try files.open(first, .update).sync() }
        }
        report.step("read back", self) { () throws(StoreError) in
            guard try readFile(first, limit: 4_096) == bytes else {
                throw StoreError(.corrupt, shown(first), "what is read is not what was written")
            }
        }
        report.step("link", self) { () throws(StoreError) in
            try call { () throws(FileFault) in try files.link(first, to: second) }
        }
        report.step("a second link to the same name is refused", self) { () throws(StoreError) in
            do throws(FileFault) {
                try files.link(first, to: second)
            } catch {
                guard error.kind != .exists else { return }
                throw counted(error)
            }
            throw StoreError(.unsupported, shown(second), "link(2) replaced a name; leases cannot work on this volume")
        }
        report.step("rename over a name", self) { () throws(StoreError) in
            try call { () throws(FileFault) in _ = try write(bytes + bytes, "\(folder)/third", durable: true) }
            try call { () throws(FileFault) in try files.rename("\(folder)/third", to: second) }
            guard try readFile(second, limit: 4_096) == bytes + bytes, try readFile(first, limit: 4_096) == bytes else {
                throw StoreError(.corrupt, shown(second), "a rename did not put the new file in the place of the old")
            }
        }
        report.step("write in place and fdatasync", self) { () throws(StoreError) in
            try call { () throws(FileFault) in
                let file = try files.open(first, .update)
                try writeAll([0x48], to: file, at: 0, first)
                try file.syncData()
            }
            guard try readFile(first, limit: 4_096).first == 0x48 else {
                throw StoreError(.corrupt, shown(first), "a write in place cannot be read back")
            }
        }
        report.step("fsync of a folder", self) { () throws(StoreError) in
            try call { () throws(FileFault) in try files.syncFolder(folder) }
        }
        report.step("statx past the caches and list", self) { () throws(StoreError) in
            guard try names(in: folder, fresh: true).sorted() == ["first", "second"] else {
                throw StoreError(.unsupported, shown(folder), "a listing does not show what was just made")
            }
        }
        report.step("rename a folder", self) { () throws(StoreError) in
            let moved = "\(Self.temporaries)/\(nonce())"
            defer { erase(moved) }
            try call { () throws(FileFault) in try files.makeFolder("\(folder)/inner") }
            try call { () throws(FileFault) in try files.rename("\(folder)/inner", to: moved) }
        }
        report.step("delete", self) { () throws(StoreError) in
            try call { () throws(FileFault) in try files.unlink(first) }
            try call { () throws(FileFault) in try files.unlink(second) }
        }
        return report
    }
}

extension SelfTestReport {
    fileprivate mutating func step(_ name: String, _ volume: Volume, _ body: () throws(StoreError) -> Void) {
        let began = volume.now()
        var problem: String?
        do {
            try body()
        } catch {
            problem = error.description
        }
        steps.append(Step(name: name, duration: volume.now() - began, problem: problem))
    }
}
