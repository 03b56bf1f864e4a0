import Gateway
import Testing

@Suite("ClientHello peek")
struct ClientHelloPeekTests {
    typealias Verdict = ClientHelloPeek.Verdict

    /// The verdict on all bytes at once.
    private func verdict(_ bytes: [UInt8]) -> Verdict {
        var peek = ClientHelloPeek()
        return bytes.withUnsafeBytes { peek.inspect($0) }
    }

    /// The verdict on prefixes of these lengths; it has to be `needsMore` for all but the last.
    private func verdict(_ bytes: [UInt8], at counts: some Sequence<Int>) -> Verdict {
        var peek = ClientHelloPeek()
        var last = Verdict.needsMore
        for count in counts {
            last = bytes.withUnsafeBytes { peek.inspect(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            if last != .needsMore { break }
        }
        return last
    }

    /// Inspects the bytes split in two at every position, and byte by byte.
    private func checkSplits(_ bytes: [UInt8], _ expected: Verdict, _ comment: Comment) {
        #expect(verdict(bytes) == expected, comment)
        for cut in 0..<bytes.count where verdict(bytes, at: [cut]) != .needsMore {
            Issue.record("decided after \(cut) of \(bytes.count) bytes: \(comment)")
            return
        }
        for cut in 0..<bytes.count where verdict(bytes, at: [cut, bytes.count]) != expected {
            Issue.record("cut at \(cut): \(comment)")
            return
        }
        #expect(verdict(bytes, at: 0...bytes.count) == expected, comment)
    }

    private func expected(_ hello: CapturedHello) -> Verdict {
        switch hello {
        case .opensslValidator, .opensslValidator12, .gnutlsValidator, .pythonValidator:
            .challenge(serverName: "app.test")
        case .opensslNameless: .challenge(serverName: nil)
        case .opensslMixed, .opensslPlain, .gnutlsHTTP, .curl: .passOn(.ordinary)
        }
    }

    @Test("Real hellos have the same verdict at every split", arguments: CapturedHello.allCases)
    func captured(_ hello: CapturedHello) {
        checkSplits(hello.bytes, expected(hello), "\(hello)")
    }

    @Test("Real hellos in several records have the same verdict, also byte by byte", arguments: CapturedHello.allCases)
    func capturedInRecords(_ hello: CapturedHello) {
        let message = Array(hello.bytes.dropFirst(5))
        for size in [1, 2, 3, 4, 5, 100, message.count - 1] {
            let bytes = TestHello.records(message, of: size)
            #expect(verdict(bytes) == expected(hello), "\(hello), \(size) bytes a record")
            #expect(verdict(bytes, at: 0...bytes.count) == expected(hello), "\(hello), \(size) bytes a record")
        }
        checkSplits(TestHello.records(message, of: 70), expected(hello), "\(hello), 70 bytes a record")
    }

    @Test("Post-quantum hellos with GREASE and an encrypted hello are parsed at every split and in any records")
    func postQuantum() throws {
        let built = TestHello.postQuantum
        #expect(built.bytes.count > 1_600)
        checkSplits(built.bytes, .challenge(serverName: "app.test"), "built")
        for size in [1, 2, 517, 1_400] {
            let bytes = TestHello.records(built.message, of: size)
            #expect(verdict(bytes, at: 0...bytes.count) == .challenge(serverName: "app.test"))
        }
        var visitor = built
        visitor.protocols = ["h2", "http/1.1"]
        checkSplits(visitor.bytes, .passOn(.ordinary), "a visitor")
        let boring = try TestHello.boringSSL(serverName: "app.test", protocols: ["acme-tls/1"])
        #expect(boring.count > 1_400)
        checkSplits(boring, .challenge(serverName: "app.test"), "BoringSSL")
        checkSplits(
            try TestHello.boringSSL(serverName: "app.test", protocols: ["http/1.1"]),
            .passOn(.ordinary),
            "BoringSSL as a visitor"
        )
    }

    @Test("Only acme-tls/1 without other protocols is a validation")
    func protocols() {
        for protocols in [
            nil, ["acme-tls/1", "h2"], ["h2", "acme-tls/1"], ["acme-tls/1", "acme-tls/1"], ["acme-tls/2"],
            ["acme-tls/"],
            ["acme-tls/1x"], ["ACME-TLS/1"], ["x"],
        ] {
            var hello = TestHello()
            hello.protocols = protocols
            #expect(verdict(hello.bytes) == .passOn(.ordinary), "\(String(describing: protocols))")
        }
    }

    @Test("The server name is converted to lower case without a final dot; an invalid host name counts as none")
    func serverNames() {
        for (sent, seen) in [
            ("App.TEST", "app.test"), ("app.test.", "app.test"), ("a_b-c.test", "a_b-c.test"), (".", nil),
            ("app.test\0", nil), ("app test", nil), ("äpp.test", nil), (String(repeating: "a", count: 255), "a"),
        ] {
            var hello = TestHello()
            hello.serverName = sent
            let name = seen.map { $0 == "a" ? sent : $0 }
            #expect(verdict(hello.bytes) == .challenge(serverName: name), "\(sent)")
        }
        var long = TestHello()
        long.serverName = String(repeating: "a", count: 256)
        #expect(verdict(long.bytes) == .passOn(.unreadable))
    }

    @Test("Bytes after the hello, in its record or later, do not matter")
    func followed() {
        let message = TestHello().message
        let challenge = Verdict.challenge(serverName: "app.test")
        #expect(verdict(TestHello.record(message + [11, 0, 0, 1, 0])) == challenge)
        #expect(verdict(TestHello.record(message + [0xFF])) == challenge)
        #expect(verdict(TestHello().bytes + TestHello.record([1], type: 20) + [0xFF, 0xFF]) == challenge)
        let (first, second) = (Array(message.prefix(50)), Array(message.dropFirst(50)))
        #expect(verdict(TestHello.record(first) + TestHello.record(second + [1, 2, 3]) + [9]) == challenge)
    }

    @Test("Other protocols are recognised by their first byte")
    func otherProtocols() {
        for text in ["GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "\0", "\u{1}"] {
            #expect(verdict(Array(text.utf8.prefix(1))) == .passOn(.unreadable), "\(text)")
        }
        // An SSL 2 hello, and an SSL 3 hello in the SSL 2 format.
        #expect(verdict([0x80, 0x2E, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]) == .passOn(.unreadable))
        #expect(verdict([0x80, 0x2E, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10]) == .passOn(.unreadable))
        // TLS records that are an alert, application data, or have an invalid version.
        #expect(verdict(TestHello.record([2, 40], type: 21)) == .passOn(.unreadable))
        #expect(verdict(TestHello.record([1, 2, 3], type: 23)) == .passOn(.unreadable))
        #expect(verdict([22, 2]) == .passOn(.unreadable))
        // A handshake message other than a ClientHello.
        #expect(verdict(TestHello.record([2])) == .passOn(.unreadable))
        #expect(verdict(TestHello.record([0, 0, 0, 0])) == .passOn(.unreadable))
    }

    @Test("A record that is empty, too long or of another type within the hello makes it unreadable")
    func badRecords() {
        let message = TestHello().message
        let (first, second) = (Array(message.prefix(50)), Array(message.dropFirst(50)))
        #expect(verdict(TestHello.record([]) + TestHello.record(message)) == .passOn(.unreadable))
        #expect(verdict(TestHello.record(first) + TestHello.record([])) == .passOn(.unreadable))
        #expect(verdict([22, 3, 1, 0x40, 0x01]) == .passOn(.unreadable))
        #expect(verdict([22, 3, 1, 0x40, 0x00]) == .needsMore)
        #expect(verdict(TestHello.record(first) + [20]) == .passOn(.unreadable))
        #expect(
            verdict(TestHello.record(first) + TestHello.record([1], type: 20) + TestHello.record(second))
                == .passOn(.unreadable)
        )
    }

    @Test("A hello truncated within its own lengths is passed on, wherever it is truncated")
    func truncated() {
        let body = Array(TestHello.postQuantum.message.dropFirst(4))
        // A TLS 1.2 hello may end without extensions.
        let bare = 2 + 32 + 1 + 32 + 2 + 6 + 2
        for count in 0..<body.count {
            let bytes = TestHello.records(TestHello.handshake(Array(body.prefix(count))), of: 1 << 14)
            #expect(verdict(bytes) == .passOn(count == bare ? .ordinary : .unreadable), "\(count) bytes")
        }
        let longer = TestHello.records(TestHello.handshake(body + [0]), of: 1 << 14)
        #expect(verdict(longer) == .passOn(.unreadable))
    }

    @Test("Contradictory fields are passed on")
    func malformedFields() {
        func with(_ change: (inout TestHello) -> Void) -> Verdict {
            var hello = TestHello()
            change(&hello)
            return verdict(hello.bytes)
        }
        #expect(with { $0.sessionID = [UInt8](repeating: 1, count: 33) } == .passOn(.unreadable))
        #expect(with { $0.sessionID = [] } == .challenge(serverName: "app.test"))
        #expect(with { $0.cipherSuites = [] } == .passOn(.unreadable))
        #expect(with { $0.cipherSuites = [1, 2, 3] } == .passOn(.unreadable))
        #expect(with { $0.serverName = "" } == .passOn(.unreadable))
        #expect(with { $0.protocols = [] } == .passOn(.unreadable))
        #expect(with { $0.protocols = [""] } == .passOn(.unreadable))
        let name = TestHello.vector16([0, 0, 1, 0x61, 0, 0, 1, 0x62])
        #expect(with { ($0.serverName, $0.extensions) = (nil, [(0, name)]) } == .passOn(.unreadable))
        #expect(with { ($0.serverName, $0.extensions) = (nil, [(0, [])]) } == .passOn(.unreadable))
        #expect(with { ($0.serverName, $0.extensions) = (nil, [(0, [0, 4, 1, 0, 1, 0x61])]) } == .passOn(.unreadable))
        #expect(with { ($0.protocols, $0.extensions) = (nil, [(16, [0, 3, 9, 0x61, 0x62])]) } == .passOn(.unreadable))
        #expect(with { ($0.protocols, $0.extensions) = (nil, [(16, [0, 2, 1, 0x61, 0])]) } == .passOn(.unreadable))
    }

    @Test("A hello with a repeated extension of any type is passed on")
    func repeated() {
        for type in [UInt16(0), 16, 43, 0x4A4A] {
            var hello = TestHello()
            let data: [UInt8] =
                type == 0 ? [0, 4, 0, 0, 1, 0x61] : type == 16 ? [0, 11, 10] + Array("acme-tls/1".utf8) : []
            hello.extensions = [(type, data)] + (type == 0 || type == 16 ? [] : [(7, []), (type, data)])
            #expect(verdict(hello.bytes) == .passOn(.unreadable), "\(type)")
        }
    }

    @Test("A hello longer than 16 KiB is passed on, at once if its header states the length")
    func limits() {
        func hello(padded: Int) -> [UInt8] {
            var hello = TestHello()
            hello.extensions = [(21, [UInt8](repeating: 0, count: padded))]
            return hello.message
        }
        let limit = ClientHelloPeek.limit
        let overhead = hello(padded: 0).count
        let largest = TestHello.record(hello(padded: limit - 5 - overhead))
        #expect(largest.count == limit)
        #expect(verdict(largest) == .challenge(serverName: "app.test"))
        #expect(verdict(largest, at: 0...limit) == .challenge(serverName: "app.test"))
        let longer = TestHello.records(hello(padded: limit - 4 - overhead), of: 1_000)
        #expect(verdict(longer) == .passOn(.tooLong))
        #expect(verdict(longer, at: 0...longer.count) == .passOn(.tooLong))
        #expect(verdict(longer, at: [9]) == .passOn(.tooLong))
        #expect(verdict([22, 3, 1, 1, 0, 1, 0xFF, 0xFF, 0xFF]) == .passOn(.tooLong))
        // Short enough in one record, but not in records of one byte.
        let inBytes = TestHello.records(hello(padded: 3_000), of: 1)
        #expect(verdict(inBytes) == .passOn(.tooLong))
        #expect(verdict(inBytes, at: [limit - 1]) == .needsMore)
        #expect(verdict(inBytes, at: [limit - 1, limit]) == .passOn(.tooLong))
    }

    @Test("A verdict does not change with further bytes")
    func final() {
        let bytes = TestHello().bytes
        var peek = ClientHelloPeek()
        _ = bytes.withUnsafeBytes { peek.inspect($0) }
        let more = bytes + [UInt8](repeating: 0, count: 100_000)
        #expect(more.withUnsafeBytes { peek.inspect($0) } == .challenge(serverName: "app.test"))
    }

    @Test("Mutated and truncated hellos never trap, and have the same verdict in pieces as at once")
    func mutations() {
        var random = SystemRandomNumberGenerator()
        let sources =
            CapturedHello.allCases.map(\.bytes)
            + [TestHello.postQuantum.bytes, TestHello.records(TestHello().message, of: 9)]
        for _ in 0..<3_000 {
            var bytes = sources.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                bytes[place] = UInt8.random(in: .min ... .max, using: &random)
            }
            bytes = Array(bytes.prefix(Int.random(in: 1...bytes.count, using: &random)))
            let whole = verdict(bytes)
            #expect(verdict(bytes, at: 0...bytes.count) == whole, "\(bytes)")
        }
    }
}
