package import Formats
import HopProtocol
import Store

/// The description of one attachment that its replica publishes: a row of the replica's journal.
///
/// Numbers are little-endian, a text is a length of one byte and UTF-8. Bytes at the end that this release does not
/// know are ignored.
///
/// ```
/// key    session id u64
/// value  format u8 (1) · run 16 B · attach number u64 · token id · NAME of the token · agent's name
///        services u8, each a text · hosts u16, each a text
/// ```
package struct SessionRecord: Equatable, Sendable {
    private static let format: UInt8 = 1

    package var info: AttachmentInfo
    /// The services, at least one, without duplicates.
    package var services: [String]
    package var hosts: [HostPattern]

    package init(_ info: AttachmentInfo, services: [String], hosts: [HostPattern]) {
        self.info = info
        self.services = services
        self.hosts = hosts
    }

    package static func key(_ id: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(id)
        return writer.bytes
    }

    package var value: [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.format)
        writer.write(info.run.rawValue)
        writer.write(info.number)
        for text in [info.tokenID, info.agent, info.instance] { writer.write(text: text) }
        writer.write(UInt8(services.count))
        for service in services { writer.write(text: service) }
        writer.write(UInt16(hosts.count))
        for host in hosts { writer.write(text: host.description) }
        return writer.bytes
    }

    /// Decodes a row. Returns `nil` unless it is one that a replica of this or a later release writes.
    package init?(key: [UInt8], value: [UInt8]) {
        guard key.count == 8, value.count <= JournalRecord.valueLimit else { return nil }
        let id = key.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        let decoded = value.withUnsafeBytes { bytes -> SessionRecord? in
            var reader = ByteReader(bytes)
            guard reader.read(UInt8.self) == Self.format, let run = reader.read(UInt128.self),
                let number = reader.read(UInt64.self), let tokenID = reader.readText(), let agent = reader.readText(),
                let instance = reader.readText(), let services = reader.read(UInt8.self), services > 0
            else { return nil }
            let info = AttachmentInfo(
                id: id,
                tokenID: tokenID,
                agent: agent,
                instance: instance,
                run: RunID(rawValue: run),
                number: number
            )
            var record = SessionRecord(info, services: [], hosts: [])
            for _ in 0..<services {
                guard let service = reader.readText(), !record.services.contains(service) else { return nil }
                record.services.append(service)
            }
            guard let hosts = reader.read(UInt16.self) else { return nil }
            for _ in 0..<hosts {
                guard let text = reader.readText(), let host = try? HostPattern(text), host.description == text else {
                    return nil
                }
                record.hosts.append(host)
            }
            return Set(record.hosts).count == record.hosts.count ? record : nil
        }
        guard let decoded else { return nil }
        self = decoded
    }
}

extension ByteWriter {
    fileprivate mutating func write(text: String) {
        precondition(text.utf8.count <= 255, "a name is checked when an agent is admitted")
        write(UInt8(text.utf8.count))
        write(text.utf8)
    }
}

extension ByteReader {
    /// Reads a text that is not empty.
    fileprivate mutating func readText() -> String? {
        guard let count = read(UInt8.self), count > 0, let bytes = read(count: Int(count)) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }
}
