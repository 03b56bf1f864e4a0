import CStore
import Glibc

/// The properties of the file system that a folder is on, as reported by statfs(2).
package struct VolumeFacts: Equatable, Sendable {
    /// The type, such as "nfs", or a hexadecimal number if its name is not known here.
    package var type: String
    package var isReadOnly: Bool
    package var bytes: UInt64
    /// The bytes available to a process without privileges.
    package var freeBytes: UInt64
    /// The number of inodes, or `nil` if the file system does not count them.
    package var inodes: UInt64?
    package var freeInodes: UInt64?

    package init(of path: String) throws(FileFault) {
        var found = hop_volume_facts()
        guard hop_volume(path, &found) == 0 else { throw FileFault(.stat, path, errno) }
        type = Self.names[found.type] ?? "0x\(String(found.type, radix: 16))"
        isReadOnly = found.read_only != 0
        bytes = found.blocks.multipliedReportingOverflow(by: found.block_size).partialValue
        freeBytes = found.available.multipliedReportingOverflow(by: found.block_size).partialValue
        inodes = found.inodes == 0 ? nil : found.inodes
        freeInodes = found.inodes == 0 ? nil : found.free_inodes
    }

    /// The magic numbers of statfs(2).
    private static let names: [Int64: String] = [
        0x6969: "nfs", 0xEF53: "ext4", 0x5846_5342: "xfs", 0x9123_683E: "btrfs", 0x0102_1994: "tmpfs",
        0x794C_7630: "overlay", 0x6573_5546: "fuse", 0xFF53_4D42: "cifs", 0xFE53_4D42: "smb", 0x00C3_6400: "ceph",
        0x0102_1997: "9p", 0x2FC1_2FC1: "zfs", 0x8584_58F6: "ramfs", 0xF2F5_2010: "f2fs", 0x0116_1970: "gfs2",
        0x7461_636F: "ocfs2", 0x0BD0_0BD0: "lustre", 0x5346_414F: "afs",
    ]

    /// The free space below which a remark is made: a certificate, a snapshot of a journal and some credentials need
    /// less.
    private static let fewBytes: UInt64 = 64 << 20
    private static let fewInodes: UInt64 = 1_000

    /// The reasons why nothing can be written, each with its remedy.
    package var problems: [String] {
        var lines: [String] = []
        if isReadOnly { lines.append("the volume is mounted read-only; mount it with write access") }
        if !isReadOnly, freeBytes == 0 { lines.append("the volume is full; free some space or enlarge it") }
        if freeInodes == 0 { lines.append("the volume has no inode left; delete files that are not needed") }
        return lines
    }

    /// The conditions that work now but may cause failures later.
    package var remarks: [String] {
        var lines: [String] = []
        switch type {
        case "tmpfs", "ramfs":
            lines.append("the volume is in memory (\(type)): its contents are lost when the machine or container ends")
        case "overlay":
            lines.append("this is the container's own layer, which is lost with the container; mount a volume here")
        case "cifs", "smb":
            lines.append("SMB shares often lack hard links, which the store needs; see the self-test")
        default: break
        }
        if freeBytes > 0, freeBytes < Self.fewBytes {
            lines.append("only \(freeBytes >> 20) MiB are free; free some space or enlarge the volume")
        }
        if let freeInodes, freeInodes > 0, freeInodes < Self.fewInodes {
            lines.append("only \(freeInodes) inodes are free; delete files that are not needed")
        }
        return lines
    }
}
