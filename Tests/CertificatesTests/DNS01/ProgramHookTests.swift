import ACME
import Certificates
import Foundation
import NIOCore
import TestSupport
import Testing

@Suite("A program as DNS hook")
struct ProgramHookTests {
    private let scratch = ScratchFolder()
    private let task = hookTask("a.test")

    private func script(_ body: String, timeout: TimeAmount = .seconds(20), environment: [String: String] = [:])
        -> ProgramHook
    {
        let path = scratch.write("hook", "#!/bin/sh\ncd '\(scratch.path)'\n\(body)\n", mode: 0o700)
        return ProgramHook(path, environment: ["PATH": "/usr/bin:/bin"].merging(environment) { $1 }, timeout: timeout)
    }

    private func present(_ hook: ProgramHook) async -> String {
        await message { () async throws(PresentationError) in try await hook.perform(.present, task) }
    }

    private func text(_ name: String) -> String { String(decoding: scratch.read(name), as: UTF8.self) }

    /// Whether a process has this number and is more than a zombie.
    private func isAlive(_ number: String) -> Bool {
        let status = try? String(contentsOfFile: "/proc/\(number)/stat", encoding: .utf8)
        return status.map { !$0.contains(") Z ") } ?? false
    }

    @Test("It gets action, name and value as they are, without a shell, and no input")
    func arguments() async {
        let hook = script(#"printf '%s\n' "$#" "$@" >> called; cat >> called; readlink /proc/self/fd/0 >> called"#)
        #expect(await present(hook) == "")
        let cleanUp = await message { () async throws(PresentationError) in try await hook.perform(.cleanUp, task) }
        #expect(cleanUp == "")
        let lines = ["3", "present", "_acme-challenge.a.test", task.recordValue, "/dev/null"]
        let again = ["3", "cleanup", "_acme-challenge.a.test", task.recordValue, "/dev/null"]
        #expect(text("called").split(separator: "\n").map(String.init) == lines + again)
    }

    @Test("It has the gateway's environment without the gateway's settings")
    func environment() async {
        let hook = script("env > env", environment: ["API_KEY": "k", "HOPGATE_CLUSTER_KEY": "secret", "HOPGATEX": "1"])
        #expect(await present(hook) == "")
        let lines = text("env").split(separator: "\n").map(String.init)
        #expect(lines.contains("API_KEY=k") && lines.contains("HOPGATEX=1"))
        #expect(!text("env").contains("secret"))
    }

    @Test("It inherits no descriptor, no blocked and no ignored signal")
    func inheritance() async {
        let leak = open("/dev/null", O_RDONLY)
        defer { close(leak) }
        // The last one in the shell's own place: a shell blocks signals for the moment in which it starts another.
        let hook = script("ls -l /proc/$$/fd > fds; exec grep -E 'SigBlk|SigIgn' /proc/self/status > signals")
        #expect(await present(hook) == "")
        // Beside its own three there is the shell's own file, at 10 or above.
        let open = text("fds").split(separator: "\n").compactMap { line -> Int? in
            let words = line.split(separator: " ")
            return words.firstIndex(of: "->").flatMap { Int(words[$0 - 1]) }
        }
        #expect(open.filter { $0 < 10 }.sorted() == [0, 1, 2])
        #expect(!open.contains(Int(leak)) || leak >= 10)
        for line in text("signals").split(separator: "\n") {
            // 32 and 33 are the C library's own, which no program can set.
            let mask = line.split(separator: "\t").last.flatMap { UInt64($0, radix: 16) }
            #expect(mask.map { $0 & ~0x1_8000_0000 } == 0, "\(line)")
        }
    }

    @Test("The end of the output is in the message, sanitised")
    func output() async {
        let hook = script(#"echo first; echo "zone \033[31mlocked" >&2; printf 'last line'; exit 3"#)
        let text = await present(hook)
        #expect(
            text
                == "the DNS hook \(scratch.file("hook")) present _acme-challenge.a.test ended with status 3; it wrote: "
                + "first / zone ?[31mlocked / last line"
        )
        #expect(await present(script("exit 1")).hasSuffix("ended with status 1, and wrote nothing"))
    }

    @Test("A flood of output is read and cut")
    func flood() async {
        let text = await present(script("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 9"))
        #expect(text.contains("ended with status 9") && text.hasSuffix("x / the end") && text.utf8.count < 1_000)
        // One that never stops writing has its deadline.
        let endless = await present(script("yes", timeout: .milliseconds(300)))
        #expect(endless.contains("did not end within 300 ms and was killed"))
    }

    @Test("A program that hangs is killed with all that it started, although it ignores SIGTERM")
    func hangs() async throws {
        let start = NIODeadline.now()
        let hook = script(
            "trap '' TERM INT HUP; sleep 1000 & echo $! > child; echo $$ > self; echo waiting; while :; do sleep 1000; done",
            timeout: .milliseconds(700)
        )
        let text = await present(hook)
        #expect(text.hasSuffix("did not end within 700 ms and was killed; it wrote: waiting"))
        #expect(NIODeadline.now() - start < .seconds(10))
        let numbers = ["child", "self"].map { self.text($0).trimmingCharacters(in: .newlines) }
        #expect(numbers.allSatisfy { !$0.isEmpty })
        try await eventually { numbers.allSatisfy { !isAlive($0) } }
        // The program itself is reaped: not even a zombie is left.
        try await eventually { !FileManager.default.fileExists(atPath: "/proc/\(numbers[1])") }
    }

    @Test("Processes that the program leaves behind end with it, and are not waited for")
    func leftovers() async throws {
        let hook = script("sleep 1000 & echo $! > child")
        let start = NIODeadline.now()
        #expect(await present(hook) == "")
        #expect(NIODeadline.now() - start < .seconds(10))
        let child = text("child").trimmingCharacters(in: .newlines)
        try await eventually { !isAlive(child) }
    }

    @Test("A program that closes its output is still waited for")
    func closedOutput() async {
        let hook = script("exec >&- 2>&-; sleep 0.3; exit 4")
        #expect(await present(hook).contains("ended with status 4"))
    }

    @Test("An end by a signal is reported")
    func signalled() async {
        #expect(await present(script("echo oops; kill -SEGV $$")).hasSuffix("was ended by signal 11; it wrote: oops"))
    }

    @Test("A program that is missing, not executable, or not a program is reported with the remedy")
    func notStarted() async {
        let missing = ProgramHook(scratch.file("nowhere"), environment: [:])
        #expect(await present(missing).contains("could not be run: there is no such file"))
        let plain = ProgramHook(scratch.write("plain", "#!/bin/sh\n", mode: 0o600), environment: [:])
        #expect(await present(plain).hasSuffix("make it executable (chmod +x)"))
        let text = ProgramHook(scratch.write("text", "hello\n", mode: 0o700), environment: [:])
        #expect(await present(text).hasSuffix("begin a script with a line such as #!/bin/sh"))
        let lost = ProgramHook(scratch.write("lost", "#!/nowhere/sh\n", mode: 0o700), environment: [:])
        #expect(await present(lost).hasSuffix("its first line names an interpreter that is not here"))
    }

    @Test("The program is killed if the order is abandoned")
    func cancelled() async throws {
        let hook = script("echo $$ > self; sleep 1000")
        let task = Task { await present(hook) }
        try await eventually { !text("self").isEmpty }
        task.cancel()
        #expect(await task.value.hasSuffix("was killed, because the order was abandoned"))
        let number = text("self").trimmingCharacters(in: .newlines)
        try await eventually { !isAlive(number) }
        // Before it began, too.
        let late = Task {
            _ = try? await eventually { Task.isCancelled }
            return await present(script("touch begun; sleep 1000"))
        }
        late.cancel()
        #expect(await late.value.contains("was abandoned"))
    }

    @Test("A hundred runs leave no descriptor and no process behind")
    func leaks() async throws {
        let hook = script("exit 0")
        _ = await present(hook)
        let failures = await withTaskGroup(of: String.self) { group in
            for _ in 0..<100 { group.addTask { await present(hook) } }
            return await group.reduce(into: []) { $0.append($1) }.filter { !$0.isEmpty }
        }
        #expect(failures.isEmpty)
        // Other tests open and close at the same time: what a hundred leaked pipes would be is what is looked for.
        func pipes() -> Int {
            let folder = "/proc/self/fd"
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            let targets = names.compactMap {
                try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\($0)")
            }
            return targets.count { $0.hasPrefix("pipe:") }
        }
        try await eventually { pipes() < 90 }
    }
}
