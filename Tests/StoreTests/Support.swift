import Foundation
import NIOCore
import Store
import Testing

/// A temporary folder of one test, deleted with this object.
final class Scratch: Sendable {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "hopgate-store-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(
            atPath: path,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700]
        )
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    func names(_ folder: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: file(folder))) ?? []).sorted()
    }

    /// A volume on this folder, with the folders that every store has.
    func volume() throws -> Volume {
        let volume = Volume(files: try PosixFileSystem(path: file("v1"), creating: true))
        try volume.prepare()
        return volume
    }
}

/// Polls until a condition that another thread fulfils holds. Returns whether it holds.
func eventually(within seconds: Double = 10, _ condition: () async throws -> Bool) async rethrows -> Bool {
    let end = NIODeadline.now() + .milliseconds(Int64(seconds * 1_000))
    while NIODeadline.now() < end {
        if try await condition() { return true }
        try? await Task.sleep(nanoseconds: 5_000_000)
    }
    return try await condition()
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func randomIncarnation() -> Incarnation {
    Incarnation(milliseconds: 1_700_000_000_000) { UInt64.random(in: .min ... .max) }
}

/// Returns the code of the store error that a call throws, or `nil` if it succeeds.
func code(_ body: () async throws -> Void) async -> StoreError.Code? {
    do {
        try await body()
        return nil
    } catch let error as StoreError {
        return error.code
    } catch {
        Issue.record("not a store error: \(error)")
        return nil
    }
}

/// Returns the bytes of a hexadecimal text.
func hex(_ text: String) -> [UInt8] {
    let digits = Array(text.utf8).map { UInt8(String(UnicodeScalar($0)), radix: 16)! }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
