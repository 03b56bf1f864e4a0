import CProcess
import Glibc
import Threads

/// A program of the system that is run to its end.
///
/// Not `Foundation.Process`: before it starts a program it reads `/proc/self/fd` with a copy that runs past the buffer,
/// which crashes a test process with more than a thousand open descriptors now and then.
package enum ExternalProgram {
    package struct Result: Sendable {
        /// The exit code, or 128 and the number of the signal that ended the program.
        package var status: Int32
        /// Standard output and error in one text.
        package var output: String
    }

    /// Runs a program on a thread of its own.
    ///
    /// - Parameters:
    ///   - words: The program, found by `PATH`, and its arguments.
    ///   - input: The text of its standard input.
    ///   - seconds: The time after which the program is killed.
    package static func run(_ words: [String], input: String = "", seconds: Int = 20) async throws -> Result {
        let result: Swift.Result<Result, ProgramNotStarted> = await withCheckedContinuation { continuation in
            let isStarted = startThread("program") {
                do throws(ProgramNotStarted) {
                    continuation.resume(returning: .success(try runBlocking(words, input: input, seconds: seconds)))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
            if !isStarted { continuation.resume(returning: .failure(ProgramNotStarted(code: EAGAIN))) }
        }
        return try result.get()
    }

    /// Runs a program and blocks the calling thread until it has ended.
    package static func runBlocking(
        _ words: [String],
        input: String = "",
        seconds: Int = 20
    ) throws(ProgramNotStarted) -> Result {
        let (keyboard, screen) = (try Pipe(), try Pipe())
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, keyboard.readEnd, 0)
        posix_spawn_file_actions_adddup2(&actions, screen.writeEnd, 1)
        posix_spawn_file_actions_adddup2(&actions, screen.writeEnd, 2)
        _ = hop_close_from(&actions, 3)
        var arguments = (["timeout", "-k", "1", "\(seconds)"] + words).map { strdup($0) } + [nil]
        defer { arguments.forEach { free($0) } }
        var process = pid_t()
        let failure = posix_spawnp(&process, "timeout", &actions, nil, &arguments, environ)
        close(keyboard.readEnd)
        close(screen.writeEnd)
        defer { close(screen.readEnd) }
        guard failure == 0 else {
            close(keyboard.writeEnd)
            throw ProgramNotStarted(code: failure)
        }
        var text = input
        text.withUTF8 { bytes in
            // Fails if the program has ended without reading it.
            _ = write(keyboard.writeEnd, bytes.baseAddress, bytes.count)
        }
        close(keyboard.writeEnd)
        let output = readToEnd(screen.readEnd)
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        let signal = status & 0x7F
        return Result(status: signal == 0 ? status >> 8 & 0xFF : 128 + signal, output: output)
    }

    private static func readToEnd(_ descriptor: Int32) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count > 0 { bytes += buffer[..<count] } else if count == 0 || errno != EINTR { break }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private struct Pipe {
        let readEnd: Int32
        let writeEnd: Int32

        init() throws(ProgramNotStarted) {
            var ends: [Int32] = [0, 0]
            guard hop_pipe(&ends) == 0 else { throw ProgramNotStarted(code: errno) }
            (readEnd, writeEnd) = (ends[0], ends[1])
        }
    }
}

/// The system could not start a program.
package struct ProgramNotStarted: Error, CustomStringConvertible {
    package var code: Int32
    package var description: String { "the program cannot be started: \(String(cString: strerror(code)))" }
}
