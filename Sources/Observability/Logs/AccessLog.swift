import Formats
package import NIOCore

/// The contents of one line of the access log. Texts may come from a peer: they are escaped and truncated when written.
package struct AccessRecord: Sendable {
    package var requestID: String
    /// The address of the client.
    package var client: String?
    /// The names of the agent that served the request, of its service, and of the route.
    package var agent: String?
    package var service: String?
    package var route: String?
    package var method: String
    package var host: String
    package var path: String
    /// The protocol version, as in `HTTP/1.1`.
    package var httpVersion: String
    /// The status that was sent, or 499 if the client disconnected before.
    package var status: Int
    /// The numbers of body bytes received from and sent to the client.
    package var bytesIn: Int
    package var bytesOut: Int
    package var duration: TimeAmount
    /// The time from the request's head to the first byte of the response, or `nil` if none was sent.
    package var timeToFirstByte: TimeAmount?
    /// The name of the code that ended the request, or `nil` if it succeeded.
    package var error: String?

    package init(
        requestID: String,
        client: String? = nil,
        agent: String? = nil,
        service: String? = nil,
        route: String? = nil,
        method: String,
        host: String,
        path: String,
        httpVersion: String = "HTTP/1.1",
        status: Int,
        bytesIn: Int,
        bytesOut: Int,
        duration: TimeAmount,
        timeToFirstByte: TimeAmount? = nil,
        error: String? = nil
    ) {
        self.requestID = requestID
        self.client = client
        self.agent = agent
        self.service = service
        self.route = route
        self.method = method
        self.host = host
        self.path = path
        self.httpVersion = httpVersion
        self.status = status
        self.bytesIn = bytesIn
        self.bytesOut = bytesOut
        self.duration = duration
        self.timeToFirstByte = timeToFirstByte
        self.error = error
    }
}

/// The access log: one line per request, through the same writer as the log. Used from any loop.
package struct AccessLog: Sendable {
    /// The maximum numbers of bytes of a method, of a name or host, and of a path.
    package static let methodLimit = 32
    package static let nameLimit = 256
    package static let pathLimit = 1_024

    private let output: LogOutput

    package init(output: LogOutput) {
        self.output = output
    }

    package func write(_ record: AccessRecord) {
        var line = LineBuilder(reserving: 640)
        switch output.form {
        case .json: Self.json(record, &line)
        case .text: Self.text(record, &line)
        }
        line.append(UInt8(ascii: "\n"))
        output.writer.write(line.bytes)
    }

    private static func json(_ record: AccessRecord, _ line: inout LineBuilder) {
        line.append(literal: "{\"ts\":\"")
        line.appendTimestamp()
        line.append(literal: "\",\"level\":\"info\",\"msg\":\"request\",\"request_id\":")
        line.append(quoted: record.requestID, limit: nameLimit)
        field(",\"client\":", record.client, &line)
        field(",\"agent\":", record.agent, &line)
        field(",\"service\":", record.service, &line)
        field(",\"route\":", record.route, &line)
        line.append(literal: ",\"method\":")
        line.append(quoted: record.method, limit: methodLimit)
        line.append(literal: ",\"host\":")
        line.append(quoted: record.host, limit: nameLimit)
        line.append(literal: ",\"path\":")
        line.append(quoted: record.path, limit: pathLimit)
        line.append(literal: ",\"protocol\":")
        line.append(quoted: record.httpVersion, limit: methodLimit)
        line.append(literal: ",\"status\":")
        line.append(record.status)
        line.append(literal: ",\"bytes_in\":")
        line.append(record.bytesIn)
        line.append(literal: ",\"bytes_out\":")
        line.append(record.bytesOut)
        line.append(literal: ",\"duration_ms\":")
        line.append(milliseconds: record.duration.nanoseconds)
        if let first = record.timeToFirstByte {
            line.append(literal: ",\"ttfb_ms\":")
            line.append(milliseconds: first.nanoseconds)
        }
        field(",\"error\":", record.error, &line)
        line.append(UInt8(ascii: "}"))
    }

    private static func field(_ key: StaticString, _ value: String?, _ line: inout LineBuilder) {
        guard let value else { return }
        line.append(literal: key)
        line.append(quoted: value, limit: nameLimit)
    }

    /// The text form: `time INFO  GET host/path 200 12.345ms in=0 out=1024 agent=… request_id=…`
    private static func text(_ record: AccessRecord, _ line: inout LineBuilder) {
        line.appendTimestamp()
        line.append(literal: " INFO  ")
        line.append(escaped: record.method, limit: methodLimit)
        line.append(UInt8(ascii: " "))
        line.append(escaped: record.host, limit: nameLimit)
        line.append(escaped: record.path, limit: pathLimit)
        line.append(UInt8(ascii: " "))
        line.append(record.status)
        line.append(UInt8(ascii: " "))
        line.append(milliseconds: record.duration.nanoseconds)
        line.append(literal: "ms in=")
        line.append(record.bytesIn)
        line.append(literal: " out=")
        line.append(record.bytesOut)
        pair(" agent=", record.agent, &line)
        pair(" service=", record.service, &line)
        pair(" client=", record.client, &line)
        pair(" error=", record.error, &line)
        pair(" request_id=", record.requestID, &line)
    }

    private static func pair(_ key: StaticString, _ value: String?, _ line: inout LineBuilder) {
        guard let value else { return }
        line.append(literal: key)
        line.append(value: value)
    }
}
