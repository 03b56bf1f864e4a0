/// The server name and the ALPN protocols of a ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2). Nothing is copied: the
/// fields are views of the message's bytes.
///
/// Only the structure that these two fields depend on is checked. Cipher suites, key shares and so on are left to the
/// TLS library, which receives the same bytes.
struct ClientHello {
    /// The `host_name` of `server_name` (RFC 6066 §3): 1 to 255 bytes, as received.
    private(set) var serverName: UnsafeRawBufferPointer?
    /// The list of `application_layer_protocol_negotiation` (RFC 7301 §3.1): one or more non-empty names, each preceded
    /// by its length in one byte.
    private(set) var protocols: UnsafeRawBufferPointer?
    private var extensions: UnsafeRawBufferPointer?

    private enum ExtensionType {
        static let serverName = 0
        static let applicationProtocols = 16
    }

    /// Parses a ClientHello. Fails if lengths contradict each other, or if one of the two fields is malformed or occurs
    /// twice.
    ///
    /// - Parameter message: The complete handshake message with its four-byte header.
    init?(_ message: UnsafeRawBufferPointer) {
        var reader = HelloReader(message)
        // The handshake header, legacy_version and random.
        guard reader.readBytes(4 + 2 + 32) != nil,
            let session = reader.vector8(), session.count <= 32,
            let suites = reader.vector16(), suites.count >= 2, suites.count % 2 == 0,
            let compression = reader.vector8(), compression.count >= 1
        else { return nil }
        // A TLS 1.2 hello may have no extensions.
        if reader.isAtEnd { return }
        guard let extensions = reader.vector16(), reader.isAtEnd else { return nil }
        self.extensions = extensions
        var list = HelloReader(extensions)
        while !list.isAtEnd {
            guard let type = list.uint16(), let data = list.vector16() else { return nil }
            switch type {
            case ExtensionType.serverName:
                guard serverName == nil, let name = Self.hostName(data) else { return nil }
                serverName = name
            case ExtensionType.applicationProtocols:
                guard protocols == nil, let names = Self.protocolNames(data) else { return nil }
                protocols = names
            default: break
            }
        }
    }

    /// The name in the `server_name` extension: exactly one, of type `host_name`.
    private static func hostName(_ data: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        var outer = HelloReader(data)
        guard let list = outer.vector16(), outer.isAtEnd else { return nil }
        var inner = HelloReader(list)
        guard inner.uint8() == 0, let name = inner.vector16(), inner.isAtEnd, (1...255).contains(name.count) else {
            return nil
        }
        return name
    }

    private static func protocolNames(_ data: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        var outer = HelloReader(data)
        guard let list = outer.vector16(), outer.isAtEnd, !list.isEmpty else { return nil }
        var inner = HelloReader(list)
        while !inner.isAtEnd {
            guard let name = inner.vector8(), !name.isEmpty else { return nil }
        }
        return list
    }

    /// Whether the client offers this protocol and no other.
    func offersOnly(_ name: StaticString) -> Bool {
        guard let protocols, protocols.count == 1 + name.utf8CodeUnitCount else { return false }
        return name.withUTF8Buffer { protocols.dropFirst().elementsEqual($0) }
    }

    /// Whether the hello contains two extensions of the same type, which RFC 8446 §4.2 forbids. Computed on demand,
    /// since only few hellos are checked for it.
    var repeatsExtension: Bool {
        guard let extensions else { return false }
        var types: [Int] = []
        var list = HelloReader(extensions)
        while let type = list.uint16(), list.vector16() != nil { types.append(type) }
        types.sort()
        return zip(types, types.dropFirst()).contains { $0 == $1 }
    }
}
