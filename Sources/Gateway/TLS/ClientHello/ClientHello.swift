/// What a ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2) says about whom it is for. Nothing is copied: the fields are
/// views of the message's bytes.
///
/// Only what these two fields need is checked. Cipher suites, key shares and the like are the TLS library's business,
/// which gets the same bytes.
struct ClientHello {
    /// `host_name` of `server_name` (RFC 6066 §3): 1 to 255 bytes, as they were sent.
    private(set) var serverName: UnsafeRawBufferPointer?
    /// The list of `application_layer_protocol_negotiation` (RFC 7301 §3.1): one name or more, none empty, each with a
    /// byte for its length before it.
    private(set) var protocols: UnsafeRawBufferPointer?
    private var extensions: UnsafeRawBufferPointer?

    private enum ExtensionType {
        static let serverName = 0
        static let applicationProtocols = 16
    }

    /// - Parameter message: the handshake message with its header of four bytes, whole.
    /// - Returns: nil when its lengths contradict each other, or one of the two fields is there twice or malformed.
    init?(_ message: UnsafeRawBufferPointer) {
        var reader = HelloReader(message)
        // The header, legacy_version and random.
        guard reader.take(4 + 2 + 32) != nil,
            let session = reader.vector8(), session.count <= 32,
            let suites = reader.vector16(), suites.count >= 2, suites.count % 2 == 0,
            let compression = reader.vector8(), compression.count >= 1
        else { return nil }
        // TLS 1.2 has hellos without extensions.
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

    /// Exactly one name, of the only type that there is.
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

    /// The client offers this protocol and no other.
    func offersOnly(_ name: StaticString) -> Bool {
        guard let protocols, protocols.count == 1 + name.utf8CodeUnitCount else { return false }
        return name.withUTF8Buffer { protocols.dropFirst().elementsEqual($0) }
    }

    /// An extension of any type is there twice, which RFC 8446 §4.2 forbids. Not part of reading, since only few hellos
    /// are asked for it.
    var repeatsExtension: Bool {
        guard let extensions else { return false }
        var types: [Int] = []
        var list = HelloReader(extensions)
        while let type = list.uint16(), list.vector16() != nil { types.append(type) }
        types.sort()
        return zip(types, types.dropFirst()).contains { $0 == $1 }
    }
}
