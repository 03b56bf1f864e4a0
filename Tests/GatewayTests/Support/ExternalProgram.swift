import Foundation

/// A program of the system, run to its end on a thread of its own.
enum ExternalProgram {
    struct Result: Sendable {
        var status: Int32
        /// Standard output and error in one text.
        var output: String
    }

    /// - Parameter seconds: it is killed when it takes longer.
    static func run(_ words: [String], input: String = "", seconds: Int = 20) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(with: Swift.Result { try runHere(words, input: input, seconds: seconds) })
            }
        }
    }

    private static func runHere(_ words: [String], input: String, seconds: Int) throws -> Result {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["timeout", String(seconds)] + words
        let (output, keyboard) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = output
        process.standardInput = keyboard
        try process.run()
        try keyboard.fileHandleForWriting.write(contentsOf: Data(input.utf8))
        try keyboard.fileHandleForWriting.close()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Result(status: process.terminationStatus, output: String(decoding: bytes, as: UTF8.self))
    }
}
