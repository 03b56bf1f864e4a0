import Glibc
import Threads

/// A blocking HTTP/1.1 client for one request to a listener for operators, with one deadline for the whole exchange.
/// The command line uses it to ask the running process.
package struct OpsProbe: Sendable {
    package struct Response: Sendable {
        package var status: Int
        package var body: String
    }

    /// The host to connect to. A wildcard address is replaced by the loopback address.
    private let host: String
    private let port: Int
    private let path: String
    private let seconds: Int
    private let method: String
    private let fields: [(name: String, value: String)]
    private let requestBody: String
    private let limit: Int
    private let hostField: String?

    /// Creates a request; ``send()`` performs it.
    ///
    /// - Parameters:
    ///   - host: A name or an address, without brackets.
    ///   - seconds: The deadline for connection, request and response together.
    ///   - fields: Fields beyond `Host` and those about the body. They come from this program and are not validated.
    ///   - limit: The maximum number of bytes of the response, including its head.
    ///   - hostField: The value of `Host`, or `nil` for the address that is connected to.
    package init(
        host: String,
        port: Int,
        path: String,
        seconds: Int,
        method: String = "GET",
        fields: [(name: String, value: String)] = [],
        body: String = "",
        limit: Int = 64 * 1024,
        hostField: String? = nil
    ) {
        let loopback = ["0.0.0.0": "127.0.0.1", "::": "::1"]
        self.host = loopback[host] ?? host
        self.port = port
        self.path = path
        self.seconds = seconds
        self.method = method
        self.fields = fields
        self.requestBody = body
        self.limit = limit
        self.hostField = hostField
    }

    private var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
    /// The URL of the request.
    package var url: String { "http://\(authority)\(path)" }

    /// Connects, sends the request and returns the response. Blocks the calling thread.
    package func send() throws(OpsProbeError) -> Response {
        let deadline = Self.now() + seconds * 1_000
        let socket = try connect(deadline)
        defer { close(socket) }
        var request = "\(method) \(path) HTTP/1.1\r\nHost: \(hostField ?? authority)\r\nConnection: close\r\n"
        for field in fields { request += "\(field.name): \(field.value)\r\n" }
        if method != "GET" { request += "Content-Length: \(requestBody.utf8.count)\r\n" }
        try send("\(request)\r\n\(requestBody)", socket, deadline)
        return try parse(try receive(socket, deadline))
    }

    private func connect(_ deadline: Int) throws(OpsProbeError) -> Int32 {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, "\(port)", &hints, &list)
        guard code == 0 else { throw failure("cannot be resolved: \(String(cString: gai_strerror(code)))") }
        defer { freeaddrinfo(list) }
        var reason = "has no address"
        var isRefused = false
        var next = list
        while let entry = next?.pointee {
            next = entry.ai_next
            let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
            let descriptor = socket(entry.ai_family, type, 0)
            guard descriptor >= 0 else { continue }
            var status = Glibc.connect(descriptor, entry.ai_addr, entry.ai_addrlen) == 0 ? 0 : errno
            if status == EINPROGRESS, wait(descriptor, Int16(POLLOUT), deadline) {
                var length = socklen_t(MemoryLayout<Int32>.size)
                getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &status, &length)
            }
            if status == 0 { return descriptor }
            isRefused = status == ECONNREFUSED
            reason = status == EINPROGRESS ? "does not answer" : String(cString: strerror(status))
            close(descriptor)
        }
        throw OpsProbeError(url: url, reason: reason, isRefused: isRefused)
    }

    private func send(_ request: String, _ socket: Int32, _ deadline: Int) throws(OpsProbeError) {
        var bytes = Array(request.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes {
                Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                bytes = bytes.dropFirst(count)
            } else if errno != EAGAIN && errno != EINTR || !wait(socket, Int16(POLLOUT), deadline) {
                throw failure("does not accept the request")
            }
        }
    }

    private func receive(_ socket: Int32, _ deadline: Int) throws(OpsProbeError) -> [UInt8] {
        var received: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16_384)
        while true {
            guard received.count <= limit else { throw failure("answers with more than \(limit) bytes") }
            guard wait(socket, Int16(POLLIN), deadline) else { throw failure("does not answer in \(seconds) s") }
            let count = recv(socket, &chunk, chunk.count, 0)
            if count == 0 { return received }
            if count < 0 {
                if errno == EAGAIN || errno == EINTR { continue }
                throw failure("failed during the response: \(String(cString: strerror(errno)))")
            }
            received += chunk[..<count]
        }
    }

    private func parse(_ bytes: [UInt8]) throws(OpsProbeError) -> Response {
        let text = String(decoding: bytes, as: UTF8.self)
        let line = text.prefix { !$0.isNewline }.split(separator: " ")
        guard line.count >= 2, line[0].hasPrefix("HTTP/1."), let status = Int(line[1]) else {
            throw failure("does not speak HTTP")
        }
        // CR LF is a single Character.
        let parts = text.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
        return Response(status: status, body: parts.count == 2 ? String(parts[1]) : "")
    }

    /// Waits for events of a socket.
    ///
    /// - Returns: `false` if the deadline passed first.
    private func wait(_ socket: Int32, _ events: Int16, _ deadline: Int) -> Bool {
        while true {
            let left = deadline - Self.now()
            guard left > 0 else { return false }
            var waited = pollfd(fd: socket, events: events, revents: 0)
            let ready = poll(&waited, 1, Int32(left))
            if ready > 0 { return true }
            if ready < 0, errno != EINTR { return false }
        }
    }

    /// Monotonic milliseconds.
    private static func now() -> Int { Int(uptimeNanoseconds() / 1_000_000) }

    private func failure(_ reason: String) -> OpsProbeError { OpsProbeError(url: url, reason: reason) }
}

/// The reason for which an ``OpsProbe`` has no response.
package struct OpsProbeError: Error, Equatable, CustomStringConvertible {
    package var url: String
    package var reason: String
    /// Whether the connection was refused because nothing listens on the port.
    package var isRefused = false

    package var description: String { "\(url): \(reason)" }
}
