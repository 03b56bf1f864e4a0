import DTLS
import FuzzDriver
import Glibc
import NIOCore

@_cdecl("FuzzDtls_main")
public func fuzzDtlsMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(UnsafeBufferPointer(start: start, count: count))
        script.run()
        return 0
    }
}

/// One certificate and its contexts for all runs.
private struct Fixture: Sendable {
    let server: DTLSContext
    let client: DTLSContext
    let secret = DTLSCookieSecret()

    static let shared = Fixture()

    private init() {
        let pem = Fixture.certificateAndKey()
        do {
            server = try .server(
                DTLSServerConfiguration(certificateChainPEM: pem, privateKeyPEM: pem, alpn: ["hop/1"])
            )
            client = try .client(DTLSClientConfiguration(trust: .caPEM(pem), alpn: ["hop/1"]))
        } catch {
            fatalError("no contexts: \(error)")
        }
    }

    /// Creates a fresh certificate in each process, so that no private key is in the repository.
    private static func certificateAndKey() -> [UInt8] {
        let command = """
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout - -out - -days 30 \
            -subj /CN=fuzz -addext subjectAltName=DNS:localhost 2>/dev/null
            """
        guard let pipe = popen(command, "r") else { fatalError("no openssl command") }
        defer { pclose(pipe) }
        var bytes: [UInt8] = []
        var next = getc(pipe)
        while next != EOF {
            bytes.append(UInt8(truncatingIfNeeded: next))
            next = getc(pipe)
        }
        return bytes
    }
}

/// A client, a gateway's listener with the demultiplexer, and an attacker between them without keys. Each step is an
/// operation byte and its operands.
private struct Script {
    private let input: UnsafeBufferPointer<UInt8>
    private var position = 0
    private var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private let client: DTLSSession
    private let listener: DTLSListener
    private var server: DTLSSession?
    private var toServer: [[UInt8]] = []
    private var toClient: [[UInt8]] = []
    private var scratch = [UInt8](repeating: 0, count: 20_000)
    /// Whether both ends have been established at the same time. From then on an attacker without keys must not be able
    /// to end the session.
    private var isSecured = false

    init(_ input: UnsafeBufferPointer<UInt8>) {
        self.input = input
        listener = DTLSListener(context: Fixture.shared.server, secret: Fixture.shared.secret)
        do {
            client = try DTLSSession(client: Fixture.shared.client, serverName: "localhost", mtu: 1200, now: now)
        } catch {
            fatalError("no client: \(error)")
        }
    }

    private mutating func byte() -> UInt8 {
        guard position < input.count else { return 0 }
        defer { position += 1 }
        return input[position]
    }

    private mutating func bytes(_ count: Int) -> [UInt8] {
        let end = min(input.count, position + count)
        defer { position = max(position, end) }
        return position < end ? Array(input[position..<end]) : []
    }

    mutating func run() {
        collect()
        while position < input.count {
            step()
            collect()
        }
        guard isSecured, let server else { return }
        precondition(client.state == .established && server.state == .established, "a session was ended from outside")
        precondition(pass(from: client, to: server) && pass(from: server, to: client), "a session was harmed")
    }

    private mutating func step() {
        switch byte() & 0x0f {
        case 0, 1: deliverToServer(bytes(Int(byte())))
        case 2, 3: deliverToClient(bytes(Int(byte())))
        case 4: deliverToServer(record())
        case 5: deliverToClient(record())
        case 6: if let datagram = pop(&toServer) { deliverToServer(altered(datagram)) }
        case 7: if let datagram = pop(&toClient) { deliverToClient(altered(datagram)) }
        case 8, 9: if let datagram = pop(&toServer) { deliverToServer(datagram) }
        case 10, 11: if let datagram = pop(&toClient) { deliverToClient(datagram) }
        case 12:
            now = now + .milliseconds(Int64(byte()) * 4)
            client.handleTimeout(now: now)
            server?.handleTimeout(now: now)
        case 13:
            while let datagram = pop(&toServer) { deliverToServer(datagram) }
            collect()
            while let datagram = pop(&toClient) { deliverToClient(datagram) }
        case 14:
            client.releaseIdleBuffers()
            server?.releaseIdleBuffers()
        default:
            if let first = toServer.first { deliverToServer(first) }
            if let first = toClient.first { deliverToClient(first) }
        }
    }

    /// Returns a well-formed record header before the script's bytes.
    private mutating func record() -> [UInt8] {
        let kind = byte()
        let sequence = byte()
        let body = bytes(Int(byte()))
        let type = 20 + kind & 3
        return [type, 0xfe, 0xfd, 0, kind >> 2 & 1, 0, 0, 0, 0, 0, sequence, 0, UInt8(body.count)] + body
    }

    private mutating func altered(_ datagram: [UInt8]) -> [UInt8] {
        var datagram = datagram
        for _ in 0..<Int(byte() & 3) + 1 {
            let at = (Int(byte()) << 8 | Int(byte())) % datagram.count
            datagram[at] ^= byte()
        }
        if byte() & 7 == 0 { datagram.removeLast(min(datagram.count, Int(byte()))) }
        return datagram
    }

    private func pop(_ queue: inout [[UInt8]]) -> [UInt8]? {
        queue.isEmpty ? nil : queue.removeFirst()
    }

    private mutating func deliverToServer(_ datagram: [UInt8]) {
        let kind = datagram.withUnsafeBytes { DTLSDatagramKind.classify($0) }
        let known = DTLSDemultiplexer.Sessions(
            pending: server?.clientRandom,
            isPendingSecured: server?.state == .established
        )
        switch DTLSDemultiplexer.destination(of: kind, sessions: known) {
        case .listener:
            let answer = datagram.withUnsafeBytes { datagram in
                withUnsafeBytes(of: 7) { listener.handle(datagram: datagram, peer: $0, now: now) }
            }
            if case .session(let session) = answer, !isSecured { server = session }
        case .pending:
            datagram.withUnsafeBytes { server?.handle(datagram: $0, now: now) }
            if let server { expectNothing(server) }
        default: break
        }
    }

    private mutating func deliverToClient(_ datagram: [UInt8]) {
        datagram.withUnsafeBytes { client.handle(datagram: $0, now: now) }
        expectNothing(client)
    }

    /// Neither end ever sends a record here, so none may be read.
    private mutating func expectNothing(_ session: DTLSSession) {
        let count = scratch.withUnsafeMutableBytes { session.read(into: $0) }
        precondition(count == nil, "a record out of nothing")
    }

    private mutating func collect() {
        while let count = scratch.withUnsafeMutableBytes({ client.pollTransmit(into: $0) }) {
            if toServer.count < 64 { toServer.append(Array(scratch.prefix(count))) }
        }
        while let count = scratch.withUnsafeMutableBytes({ listener.pollTransmit(into: $0) }) {
            if toClient.count < 64 { toClient.append(Array(scratch.prefix(count))) }
        }
        while let count = scratch.withUnsafeMutableBytes({ server?.pollTransmit(into: $0) }) {
            if toClient.count < 64 { toClient.append(Array(scratch.prefix(count))) }
        }
        if client.state == .established, server?.state == .established { isSecured = true }
    }

    private mutating func pass(from: DTLSSession, to: DTLSSession) -> Bool {
        let message: [UInt8] = [1, 2, 3]
        var datagram = [UInt8](repeating: 0, count: 64)
        let count = message.withUnsafeBytes { message in
            datagram.withUnsafeMutableBytes { try? from.seal(message, into: $0) }
        }
        guard let count else { return false }
        datagram.withUnsafeBytes { to.handle(datagram: UnsafeRawBufferPointer(rebasing: $0[..<count]), now: now) }
        return scratch.withUnsafeMutableBytes { to.read(into: $0) } == 3 && scratch.prefix(3).elementsEqual(message)
    }
}
