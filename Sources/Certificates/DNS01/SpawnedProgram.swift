import CProcess
import Glibc

/// A child process in its own process group, and the pipe of its output. The owner kills the group and reaps the
/// process, on one thread.
struct SpawnedProgram: ~Copyable {
    struct Failure: Error {
        let reason: String
    }

    private let process: pid_t
    private let output: Int32
    /// The number of consecutive reads of 4 KiB before the owner checks the deadline: some programs never stop writing.
    private static let reads = 64
    /// The number of attempts to start a file that is still open for writing, and the pause between them in
    /// milliseconds.
    private static let busyTries = 50
    private static let busyPause: Int32 = 20

    /// Starts the program with an empty standard input, and no descriptors except output and error, which are the pipe.
    init(_ path: String, _ arguments: [String], environment: [String]) throws(Failure) {
        var ends: [Int32] = [-1, -1]
        guard hop_pipe(&ends) == 0 else { throw Self.failure(errno, path) }
        // Only this end is non-blocking: both ends have their own flags.
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        var process = pid_t()
        var failure = Self.spawn(path, arguments, environment, output: ends[1], &process)
        // The file is open for writing: in an editor that is saving it, or in a fork of the process that has just
        // written it.
        for _ in 0..<Self.busyTries where failure == ETXTBSY {
            _ = poll(nil, 0, Self.busyPause)
            failure = Self.spawn(path, arguments, environment, output: ends[1], &process)
        }
        close(ends[1])
        guard failure == 0 else {
            close(ends[0])
            throw Self.failure(failure, path)
        }
        self.process = process
        output = ends[0]
    }

    deinit { close(output) }

    private static func spawn(
        _ path: String,
        _ arguments: [String],
        _ environment: [String],
        output: Int32,
        _ process: inout pid_t
    ) -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, output, 2)
        // This program's descriptors are close-on-exec; those of libraries may not be.
        hop_close_from(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Threads here block signals and ignore SIGPIPE, which programs would inherit.
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
        posix_spawnattr_setflags(&attributes, Int16(flags))

        var words = ([path] + arguments).map { strdup($0) } + [nil]
        var variables = environment.map { strdup($0) } + [nil]
        defer { for text in words + variables { free(text) } }
        return posix_spawn(&process, path, &actions, &attributes, &words, &variables)
    }

    private static func failure(_ number: Int32, _ path: String) -> Failure {
        switch number {
        case ENOENT:
            Failure(reason: "there is no such file, or its first line names an interpreter that is not here")
        case EACCES: Failure(reason: "this process may not execute it; make it executable (chmod +x)")
        case ENOEXEC: Failure(reason: "it is not a program; begin a script with a line such as #!/bin/sh")
        default: Failure(reason: String(cString: strerror(number)))
        }
    }

    /// Whether the process has ended. It has still to be reaped.
    var hasEnded: Bool {
        var information = siginfo_t()
        information.si_signo = 0
        let result = waitid(P_PID, id_t(process), &information, WEXITED | WNOHANG | WNOWAIT)
        // An error means that the process was reaped elsewhere.
        return result != 0 ? errno != EINTR : information.si_signo != 0
    }

    /// Reads the available output.
    ///
    /// - Parameter wait: The time in milliseconds to wait for more.
    func read(into tail: inout OutputTail, wait: Int32) {
        var waited = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
        let count = poll(&waited, 1, wait)
        // The writing end is closed while the program runs: there is nothing to wait for except the time.
        let isClosed = count > 0 && waited.revents & Int16(POLLIN) == 0
        if isClosed, wait > 0 { _ = poll(nil, 0, wait) }
        guard count > 0, !isClosed else { return }
        withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 1) { buffer in
            for _ in 0..<Self.reads {
                let count = Glibc.read(output, buffer.baseAddress, buffer.count)
                guard count > 0 else { return }
                tail.append(buffer[..<count])
            }
        }
    }

    /// Kills the process group. Called before ``reap()``, after which the process ID may be reused.
    func killGroup() {
        kill(-process, SIGKILL)
    }

    /// Waits for the end of the process, and returns its status as of wait(2).
    func reap() -> Int32 {
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0 {
            if errno != EINTR { return 0x7f00 }
        }
        return status
    }
}
