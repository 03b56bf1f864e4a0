import NIOCore

extension DTLSContext {
    /// Performs a handshake in memory between this server's context and a client, so that a certificate that no client
    /// could use is found when it is loaded.
    ///
    /// - Parameters:
    ///   - leafSHA256: The SHA-256 of the leaf's DER, which the client pins. Names, dates and issuers do not count.
    ///   - alpn: An application protocol of this context.
    /// - Throws: The failure of the side that refused the other.
    package func selfTest(leafSHA256: [UInt8], alpn: String) throws(DTLSError) {
        let now = NIODeadline.uptimeNanoseconds(0)
        let trust = DTLSClientConfiguration(trust: .pin(sha256: leafSHA256), alpn: [alpn])
        let client = try DTLSSession(client: .client(trust), serverName: nil, mtu: 1_200, now: now)
        let listener = DTLSListener(context: self, secret: DTLSCookieSecret())
        let noAddress = UnsafeRawBufferPointer(start: nil, count: 0)
        var server: DTLSSession?
        withUnsafeTemporaryAllocation(byteCount: DTLSSession.maxHandshakeDatagram, alignment: 1) { buffer in
            var isIdle = false
            while !isIdle {
                isIdle = true
                while let count = client.pollTransmit(into: buffer) {
                    isIdle = false
                    let datagram = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                    guard server == nil else {
                        server?.handle(datagram: datagram, now: now)
                        continue
                    }
                    let answer = listener.handle(datagram: datagram, peer: noAddress, now: now)
                    if case .session(let session) = answer { server = session }
                }
                while let count = server?.pollTransmit(into: buffer) ?? listener.pollTransmit(into: buffer) {
                    isIdle = false
                    client.handle(datagram: UnsafeRawBufferPointer(rebasing: buffer[..<count]), now: now)
                }
            }
        }
        let failures = [server?.failure, client.failure].compactMap(\.self)
        // The other side has only received an alert.
        let cause = failures.first { if case .peerAlert = $0.code { false } else { true } }
        if let failure = cause ?? failures.first { throw failure }
        guard client.state == .established, server?.state == .established else {
            throw DTLSError(.notEstablished, "the handshake did not complete")
        }
    }
}
