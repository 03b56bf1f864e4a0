import Foundation
import TestSupport

/// A running command of another implementation, with its output in a file and a pipe to its input. Ended with the
/// object.
final class OtherProgram {
    private let process = Process()
    private let input = Pipe()
    private let folder = ScratchFolder()

    init(_ name: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        let output = FileHandle(forWritingAtPath: folder.write("log", ""))
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [name] + arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = input
        process.standardOutput = output
        process.standardError = output
        try process.run()
    }

    deinit { process.terminate() }

    /// The whole output so far.
    var output: String { String(decoding: folder.read("log"), as: UTF8.self) }

    var isRunning: Bool { process.isRunning }

    func type(_ text: String) {
        input.fileHandleForWriting.write(Data(text.utf8))
    }

    func endInput() {
        try? input.fileHandleForWriting.close()
    }

    /// Returns a free UDP port. Another process may bind it before it is used, which then fails the test.
    static func freePort() -> UInt16 {
        LoopbackSocket().port
    }
}
