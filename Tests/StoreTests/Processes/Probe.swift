import Foundation
import Glibc
import TestSupport

/// A process that runs the probe, killed at the end of the test at the latest. Its output goes to a file, so that the
/// process never waits for this one to read it.
final class Probe {
    private let number: pid_t
    private let folder = ScratchFolder()
    private var ending: Int32?

    init(_ arguments: [String]) throws {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let program = URL(fileURLWithPath: own).deletingLastPathComponent().appending(path: "StoreProbe").path
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, folder.file("output"), O_WRONLY | O_CREAT | O_APPEND, 0o600)
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var number: pid_t = 0
        let failure = posix_spawn(&number, program, &actions, nil, &words, environ)
        guard failure == 0 else { throw POSIXError(POSIXErrorCode(rawValue: failure) ?? .ENOENT) }
        self.number = number
    }

    deinit {
        if isRunning {
            send(SIGKILL)
            wait()
        }
    }

    var lines: [String] {
        String(decoding: folder.read("output"), as: UTF8.self).split(separator: "\n").map(String.init)
    }

    func send(_ signal: Int32) { kill(number, signal) }

    var isRunning: Bool {
        guard ending == nil else { return false }
        var status: Int32 = 0
        guard waitpid(number, &status, WNOHANG) == number else { return true }
        ending = status
        return false
    }

    /// The exit status, or `nil` while the process runs or if a signal ended it.
    var status: Int32? { ending.flatMap { $0 & 0x7f == 0 ? $0 >> 8 & 0xff : nil } }

    func wait() {
        guard ending == nil else { return }
        var status: Int32 = 0
        while waitpid(number, &status, 0) < 0, errno == EINTR {}
        ending = status
    }
}
