package import NIOCore
package import Store

extension ScratchFolder {
    /// Creates a volume on this folder, with the folders that every store has. Each call stands for another process.
    package func volume(
        now: @escaping @Sendable () -> NIODeadline = { .now() },
        random: @escaping @Sendable () -> UInt64 = { .random(in: .min ... .max) }
    ) throws -> Volume {
        let volume = Volume(files: try PosixFileSystem(path: file("v2"), creating: true), now: now, random: random)
        try volume.prepare()
        return volume
    }
}
