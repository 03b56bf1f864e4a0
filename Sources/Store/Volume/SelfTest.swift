package import NIOCore

/// The result of a self-test: what the volume supports, how long each step took, and what failed. Made at start-up and
/// by `store check`.
package struct SelfTestReport: Sendable {
    /// One tested operation.
    package struct Step: Sendable {
        package let name: String
        package let duration: TimeAmount
        /// The failure and its meaning, or `nil` if the step succeeded.
        package let problem: String?
    }

    package internal(set) var steps: [Step] = []
    /// Whether the volume is full. The steps after the one that found it so are skipped, because they would fail, too.
    fileprivate(set) var isFull = false

    package var problems: [String] { steps.compactMap { step in step.problem.map { "\(step.name): \($0)" } } }
    package var isUsable: Bool { problems.isEmpty }
}

extension Volume {
    /// Tries every operation that the store needs, in a temporary folder that is removed again. Failures are in the
    /// report.
    package func selfTest() -> SelfTestReport {
        var report = SelfTestReport()
        let folder = "\(Self.temporaries)/\(nonce())"
        defer { erase(folder) }
        let bytes = Array("hopgate self-test \(nonce())\n".utf8)
        let first = "\(folder)/first"
        let second = "\(folder)/second"
        report.step("make a folder", self) { try ensureFolder(folder) }
        guard report.isUsable else { return report }
        report.step("create and write", self) { try write(bytes, first, durable: false) }
        report.step("fsync of a file", self) { try files.open(first, .update).sync() }
        report.step("read back", self) {
            guard try readFile(first, limit: 4_096) == bytes else {
                throw StoreError(.corrupt, displayPath(first), "the bytes read differ from the bytes written")
            }
        }
        report.step("link", self) { try files.link(first, to: second) }
        report.step("a second link to the same name is refused", self) {
            do throws(FileFault) {
                try files.link(first, to: second)
            } catch let fault where fault.kind == .exists {
                return
            }
            throw StoreError(
                .unsupported,
                displayPath(second),
                "link(2) replaced an existing name; leases cannot work on this volume, use another one"
            )
        }
        report.step("rename over a name", self) {
            try write(bytes + bytes, "\(folder)/third", durable: true)
            try files.rename("\(folder)/third", to: second)
            guard try readFile(second, limit: 4_096) == bytes + bytes, try readFile(first, limit: 4_096) == bytes else {
                throw StoreError(.corrupt, displayPath(second), "a rename did not replace the old file")
            }
        }
        report.step("write in place and fdatasync", self) {
            let file = try files.open(first, .update)
            try writeAll([0x48], to: file, at: 0, first)
            try file.syncData()
            guard try readFile(first, limit: 4_096).first == 0x48 else {
                throw StoreError(.corrupt, displayPath(first), "a write in place does not read back")
            }
        }
        report.step("fsync of a folder", self) { try files.syncFolder(folder) }
        report.step("statx past the caches and list", self) {
            guard try names(in: folder, fresh: true).sorted() == ["first", "second"] else {
                throw StoreError(
                    .unsupported,
                    displayPath(folder),
                    "a listing does not show files that were just created"
                )
            }
        }
        report.step("rename a folder", self) {
            let moved = "\(Self.temporaries)/\(nonce())"
            defer { erase(moved) }
            try files.makeFolder("\(folder)/inner")
            try files.rename("\(folder)/inner", to: moved)
        }
        report.step("delete", self) {
            try files.unlink(first)
            try files.unlink(second)
        }
        return report
    }
}

extension Volume {
    /// Performs a body that throws errors of the store and faults of file-system calls, which are converted as by
    /// ``call(_:)``.
    func attempt(_ body: () throws -> Void) throws(StoreError) {
        do {
            try body()
        } catch {
            if let error = error as? StoreError { throw error }
            guard let fault = error as? FileFault else { preconditionFailure("an error of another kind: \(error)") }
            throw storeError(for: fault)
        }
    }
}

extension SelfTestReport {
    /// Runs and times one step.
    fileprivate mutating func step(_ name: String, _ volume: Volume, _ body: () throws -> Void) {
        guard !isFull else { return }
        let began = volume.now()
        var problem: String?
        do throws(StoreError) {
            try volume.attempt(body)
        } catch {
            problem = error.description
            isFull = error.code == .full
        }
        steps.append(Step(name: name, duration: volume.now() - began, problem: problem))
    }
}
