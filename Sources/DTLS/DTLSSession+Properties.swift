import COpenSSL

extension DTLSSession {
    /// The agreed application protocol, or `nil` before the agreement.
    package var alpn: String? {
        var count = 0
        guard let name = hop_session_alpn(handle, &count), count > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: name, count: count), as: UTF8.self)
    }

    /// The name that was sent as SNI.
    package var serverName: String? {
        hop_session_server_name(handle).map { String(cString: $0) }
    }

    /// OpenSSL's name of the cipher suite; "(NONE)" before one was agreed.
    package var cipher: String {
        String(cString: hop_session_cipher(handle))
    }

    /// The random of the session's ClientHello, for ``DTLSDemultiplexer``.
    package var clientRandom: DTLSClientRandom? {
        withUnsafeTemporaryAllocation(byteCount: DTLSClientRandom.count, alignment: 8) { bytes in
            guard hop_session_client_random(handle, bytes.baseAddress) else { return nil }
            return DTLSClientRandom(UnsafeRawBufferPointer(bytes))
        }
    }

    /// The SHA-256 of the DER of the peer's certificate, or `nil` if it sent none.
    package var peerLeafSHA256: [UInt8]? {
        let count = HOP_DIGEST_BYTES
        let digest = [UInt8](unsafeUninitializedCapacity: count) { buffer, written in
            written = hop_session_peer_leaf_digest(handle, buffer.baseAddress) ? count : 0
        }
        return digest.isEmpty ? nil : digest
    }

    /// The URI among the names of the peer's certificate, or `nil` if it has none or several.
    package var peerURI: String? {
        withUnsafeTemporaryAllocation(byteCount: 256, alignment: 1) { buffer in
            var count = 0
            let room = buffer.bindMemory(to: UInt8.self)
            guard hop_session_peer_uri(handle, room.baseAddress, room.count, &count) else { return nil }
            return String(validating: room[..<count], as: UTF8.self)
        }
    }

    /// Returns bytes that only the two ends of this session can know (RFC 5705), bound to the handshake by RFC 7627.
    /// The session must be established.
    package func exportKeyingMaterial(label: String, length: Int) -> [UInt8] {
        precondition(state == .established, "there is no key before the handshake's end")
        return [UInt8](unsafeUninitializedCapacity: length) { buffer, written in
            let exported = label.utf8.withContiguousStorageIfAvailable { label in
                label.withMemoryRebound(to: CChar.self) { label in
                    hop_session_export(handle, label.baseAddress, label.count, buffer.baseAddress, length)
                }
            }
            precondition(exported == true, "the exporter refused the label")
            written = length
        }
    }

    /// The number of handshake datagrams that found the queue full and were lost.
    package var droppedHandshakeDatagrams: Int {
        Int(hop_session_queue_drops(handle))
    }
}
