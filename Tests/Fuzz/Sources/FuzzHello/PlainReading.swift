import EdgeHello

/// A second implementation of the verdict, straight from RFC 8446 §4.1.2 and §5.1: it copies arrays and keeps no state.
enum PlainReading {
    private struct Malformed: Error {}

    static func verdict(_ all: [UInt8]) -> ClientHelloPeek.Verdict {
        let limit = ClientHelloPeek.limit
        let end: ClientHelloPeek.Verdict = all.count >= limit ? .passOn(.tooLong) : .needsMore
        var rest = Array(all.prefix(limit))
        var message: [UInt8] = []
        while true {
            // What the message says of itself comes before what the next record says.
            if let type = message.first, type != 1 { return .passOn(.unreadable) }
            if message.count >= 4 {
                let length = 4 + Int(message[1]) << 16 + Int(message[2]) << 8 + Int(message[3])
                if length + 5 > limit { return .passOn(.tooLong) }
                if message.count >= length { return read(Array(message[..<length])) }
            }
            guard let type = rest.first else { return end }
            guard type == 22 else { return .passOn(.unreadable) }
            guard rest.count > 1 else { return end }
            guard rest[1] == 3 else { return .passOn(.unreadable) }
            guard rest.count >= 5 else { return end }
            let length = Int(rest[3]) * 256 + Int(rest[4])
            guard length > 0, length <= 16_384 else { return .passOn(.unreadable) }
            message += rest.dropFirst(5).prefix(length)
            rest = Array(rest.dropFirst(5 + length))
        }
    }

    private static func read(_ message: [UInt8]) -> ClientHelloPeek.Verdict {
        do {
            var rest = Array(message.dropFirst(4))
            _ = try readBytes(34, &rest)
            guard try vector(1, &rest).count <= 32 else { throw Malformed() }
            let suites = try vector(2, &rest)
            guard !suites.isEmpty, suites.count.isMultiple(of: 2) else { throw Malformed() }
            guard try !vector(1, &rest).isEmpty else { throw Malformed() }
            var extensions: [(type: [UInt8], data: [UInt8])] = []
            if !rest.isEmpty {
                var list = try vector(2, &rest)
                guard rest.isEmpty else { throw Malformed() }
                while !list.isEmpty { extensions.append((try readBytes(2, &list), try vector(2, &list))) }
            }
            let names = try extensions.filter { $0.type == [0, 0] }.map { try serverName($0.data) }
            let protocols = try extensions.filter { $0.type == [0, 16] }.map { try protocolNames($0.data) }
            guard names.count <= 1, protocols.count <= 1 else { throw Malformed() }
            guard protocols == [[Array("acme-tls/1".utf8)]] else { return .passOn(.ordinary) }
            guard Set(extensions.map(\.type)).count == extensions.count else { throw Malformed() }
            return .challenge(serverName: names.first.flatMap(text))
        } catch { return .passOn(.unreadable) }
    }

    private static func serverName(_ data: [UInt8]) throws -> [UInt8] {
        var rest = data
        var list = try vector(2, &rest)
        guard rest.isEmpty, try readBytes(1, &list) == [0] else { throw Malformed() }
        let name = try vector(2, &list)
        guard list.isEmpty, !name.isEmpty, name.count < 256 else { throw Malformed() }
        return name
    }

    private static func protocolNames(_ data: [UInt8]) throws -> [[UInt8]] {
        var rest = data
        var list = try vector(2, &rest)
        guard rest.isEmpty, !list.isEmpty else { throw Malformed() }
        var names: [[UInt8]] = []
        while !list.isEmpty { names.append(try vector(1, &list)) }
        guard !names.contains([]) else { throw Malformed() }
        return names
    }

    private static func text(_ name: [UInt8]) -> String? {
        let allowed = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._".utf8)
        guard name.allSatisfy(allowed.contains) else { return nil }
        var text = String(decoding: name, as: UTF8.self).lowercased()
        if text.hasSuffix(".") { text.removeLast() }
        return text.isEmpty ? nil : text
    }

    private static func readBytes(_ count: Int, _ bytes: inout [UInt8]) throws -> [UInt8] {
        guard bytes.count >= count else { throw Malformed() }
        defer { bytes.removeFirst(count) }
        return Array(bytes.prefix(count))
    }

    /// - Parameter width: bytes of the length before it.
    private static func vector(_ width: Int, _ bytes: inout [UInt8]) throws -> [UInt8] {
        let length = try readBytes(width, &bytes).reduce(0) { $0 * 256 + Int($1) }
        return try readBytes(length, &bytes)
    }
}
