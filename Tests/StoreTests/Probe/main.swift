// A separate process that uses a store, for the tests that kill, stop and race processes.
//
//   StoreProbe found FOLDER START            opens the cluster at that instant of the monotonic clock, prints its ids
//   StoreProbe write FOLDER                  writes values and a journal until it is killed
//   StoreProbe lease FOLDER TTL-MS           acquires a lease and writes under it until it is fenced

import Glibc
import NIOCore
import Store

/// Prints a line without buffering, so that it is not lost when the process is killed.
func printLine(_ words: Any...) {
    let line = words.map { "\($0)" }.joined(separator: " ") + "\n"
    _ = write(1, line, line.utf8.count)
}

func volume(_ folder: String) throws -> Volume {
    let volume = Volume(files: try PosixFileSystem(path: folder, creating: true))
    try volume.prepare()
    return volume
}

func fail(_ text: String) -> Never {
    printLine("failed: \(text)")
    exit(1)
}

/// Returns content that shows whether it is complete: a number, and a corresponding number of bytes.
func content(_ number: UInt64) -> [UInt8] {
    let text = Array("\(number) ".utf8)
    return text + [UInt8](repeating: UInt8(number & 0xff), count: Int(number % 5_000))
}

let arguments = CommandLine.arguments
guard arguments.count >= 3 else { fail("no arguments") }

do {
    switch arguments[1] {
    case "found":
        let start = NIODeadline.uptimeNanoseconds(UInt64(arguments[3]) ?? 0)
        while NIODeadline.now() < start {}
        let (_, cluster, _) = try await VolumeStore.open(path: arguments[2], mounted: nil)
        printLine(cluster.id, cluster.keyring.signing.id)
    case "write":
        let volume = try volume(arguments[2])
        let store = VolumeStore(volume: volume)
        let member = try await store.join(
            JoinOptions(
                incarnation: { Incarnation(milliseconds: 1) { UInt64.random(in: .min ... .max) } },
                info: { Array("card of \($0)".utf8) }
            )
        )
        let lease = try await store.lease(
            "site",
            {
                var options = LeaseOptions(guards: ["certs/site"])
                options.timeToLive = .milliseconds(300)
                return options
            }()
        )
        printLine("ready", member.incarnation)
        var number = UInt64.random(in: 0...1_000_000)
        while true {
            number += 1
            let bytes = content(number)
            do {
                let value = try await store.read("agents/shared")
                let version = try await store.write("agents/shared", .replace(value.version, bytes))
                printLine("value", version)
            } catch {
                if error.code == .notFound { _ = try? await store.write("agents/shared", .create(bytes)) }
            }
            printLine("site", try await store.put("certs/site", bytes, under: lease))
            try member.put(key: Array("row \(number % 50)".utf8), value: bytes)
            if number % 7 == 0 { try await member.flush() }
        }
    case "lease":
        let store = VolumeStore(volume: try volume(arguments[2]))
        var options = LeaseOptions(guards: ["certs/site"])
        options.timeToLive = .milliseconds(Int64(arguments[3]) ?? 3_000)
        let lease = try await store.lease("site", options)
        printLine("held", lease.epoch)
        var number = 0
        while true {
            number += 1
            let text = Array("epoch \(lease.epoch) \(number)".utf8)
            printLine("written", try await store.put("certs/site", text, under: lease))
            usleep(20_000)
        }
    default: fail("no such command")
    }
} catch let error as StoreError {
    printLine("\(error.code):", error)
    exit(error.code == .fenced ? 3 : 1)
}
