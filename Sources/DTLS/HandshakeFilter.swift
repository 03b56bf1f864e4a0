/// The rule by which records reach OpenSSL before the end of the handshake, read from their headers. A pure value,
/// owned by one session.
///
/// Think of it as the guard of a half-open session's memory and life. OpenSSL keeps every record of the next epoch,
/// each with a read buffer of 17 KB, and fragments of up to ten later messages at their full size. It also treats
/// unencrypted application data as a fatal violation, and five warnings too, although they mean nothing: such a record
/// is forged, or a ``DTLSUnknownSessionAlert``, and must not end the handshake.
struct HandshakeFilter {
    /// The most datagrams of a client until its handshake is complete, in which each flight may be sent six times.
    static let maxDatagrams = 48
    /// The most protected records of a client until its handshake is complete: Finished, and once more if its datagram
    /// overtook that of ChangeCipherSpec.
    static let maxProtectedRecords = 2
    /// The most bytes of a client's message. ClientKeyExchange of ECDHE has at most 98 bytes, CertificateVerify of
    /// ECDSA 80. A ClientHello fits into one datagram.
    static let maxMessageBytes = 256
    static let maxHelloBytes = 1_200
    /// The most bytes of a client's Certificate, if clients present one: that of a replica, without a chain.
    static let maxCertificateBytes = 1_024

    private let isServer: Bool
    private let verifiesClient: Bool
    private var datagrams = 0
    private var protectedRecords = 0
    private var hasKeyExchange = false

    init(isServer: Bool, verifiesClient: Bool = false) {
        self.isServer = isServer
        self.verifiesClient = verifiesClient
    }

    /// Counts one datagram. Returns whether the session may live on; a client's peer is verified, and is not limited.
    mutating func admitsDatagram() -> Bool {
        datagrams += 1
        return !isServer || datagrams <= Self.maxDatagrams
    }

    /// Returns the number of leading bytes of a datagram that may be given to OpenSSL.
    mutating func acceptedBytes(of datagram: UnsafeRawBufferPointer) -> Int {
        let header = DTLSDatagramKind.recordHeaderBytes
        var position = 0
        while datagram.count - position >= header {
            let count = Int(datagram[position + 11]) << 8 | Int(datagram[position + 12])
            let end = position + header + count
            guard end <= datagram.count else { break }
            let body = UnsafeRawBufferPointer(rebasing: datagram[position + header..<end])
            let isProtected = datagram[position + 3] != 0 || datagram[position + 4] != 0
            if isProtected {
                if isServer {
                    guard hasKeyExchange, protectedRecords < Self.maxProtectedRecords else { return position }
                    protectedRecords += 1
                }
            } else if !isPlausible(DTLSDatagramKind.ContentType(rawValue: datagram[position]), body) {
                return 0
            }
            position = end
        }
        return datagram.count
    }

    /// Returns whether an unencrypted record can come from a correct peer.
    private mutating func isPlausible(
        _ type: DTLSDatagramKind.ContentType?,
        _ body: UnsafeRawBufferPointer
    ) -> Bool {
        switch type {
        case .applicationData: return false
        case .alert: return body.count != 2 || body[0] != 1 || body[1] == 0
        case .handshake where isServer: return isPlausibleMessage(body)
        default: return true
        }
    }

    private enum Message {
        static let headerBytes = 12
        static let clientHello: UInt8 = 1
        static let certificate: UInt8 = 11
        static let clientKeyExchange: UInt8 = 16
    }

    /// Returns whether every fragment in a client's record belongs to a message of a possible size.
    private mutating func isPlausibleMessage(_ record: UnsafeRawBufferPointer) -> Bool {
        var body = record
        while body.count >= Message.headerBytes {
            let length = Int(body[1]) << 16 | Int(body[2]) << 8 | Int(body[3])
            let fragment = Int(body[9]) << 16 | Int(body[10]) << 8 | Int(body[11])
            // Only the first flights contain a ClientHello; OpenSSL would keep later ones for a renegotiation.
            let isEarly = body[4] == 0 && body[5] <= 2
            switch body[0] {
            case Message.clientHello: guard length <= Self.maxHelloBytes, isEarly else { return false }
            case Message.certificate where verifiesClient:
                // The first message of its flight. OpenSSL would keep later ones at their full size.
                guard length <= Self.maxCertificateBytes, body[4] == 0, body[5] <= 2 else { return false }
            case Message.clientKeyExchange where length <= Self.maxMessageBytes: hasKeyExchange = true
            default: guard length <= Self.maxMessageBytes else { return false }
            }
            body = UnsafeRawBufferPointer(rebasing: body.dropFirst(Message.headerBytes + fragment))
        }
        return true
    }
}
