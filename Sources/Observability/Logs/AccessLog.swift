package import NIOCore

/// What one access line says of a request. Texts may be foreign: they are escaped and capped when written.
package struct AccessRecord: Sendable {
    package var requestID: String
    /// The address of the client.
    package var client: String?
    /// The name of the agent that served, its service, and the route that led there.
    package var agent: String?
    package var service: String?
    package var route: String?
    package var method: String
    package var host: String
    package var path: String
    /// `HTTP/1.1` and so on.
    package var httpVersion: String
    /// The status that was sent; 499 for a client that left before.
    package var status: Int
    /// Body bytes from the client, and to it.
    package var bytesIn: Int
    package var bytesOut: Int
    package var duration: TimeAmount
    /// From the request's head to the first byte of the response; `nil` when none was sent.
    package var timeToFirstByte: TimeAmount?
    /// The name of the code that ended the request, `nil` when all went well.
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

/// Writes one line a request through the same writer as the log; usable from every loop.
package struct AccessLog: Sendable {
    /// Bytes of a method, host, path or other text before they are cut.
    package static let methodLimit = 32
    package static let nameLimit = 256
    package static let pathLimit = 1_024

    private let output: LogOutput

    package init(output: LogOutput) {
        self.output = output
    }

    package func write(_ record: AccessRecord) {
        var line = LineBuilder(reserving: 640)
        switch self.output.form {
        case .json: Self.json(record, &line)
        case .text: Self.text(record, &line)
        }
        line.append(UInt8(ascii: "\n"))
        self.output.writer.write(line.bytes)
    }

    private static func json(_ record: AccessRecord, _ line: inout LineBuilder) {
        line.append(literal: "{\"ts\":\"")
        line.appendTimestamp()
        line.append(literal: "\",\"level\":\"info\",\"msg\":\"request\",\"request_id\":")
        line.append(quoted: record.requestID, limit: self.nameLimit)
        self.field(",\"client\":", record.client, &line)
        self.field(",\"agent\":", record.agent, &line)
        self.field(",\"service\":", record.service, &line)
        self.field(",\"route\":", record.route, &line)
        line.append(literal: ",\"method\":")
        line.append(quoted: record.method, limit: self.methodLimit)
        line.append(literal: ",\"host\":")
        line.append(quoted: record.host, limit: self.nameLimit)
        line.append(literal: ",\"path\":")
        line.append(quoted: record.path, limit: self.pathLimit)
        line.append(literal: ",\"protocol\":")
        line.append(quoted: record.httpVersion, limit: self.methodLimit)
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
        self.field(",\"error\":", record.error, &line)
        line.append(UInt8(ascii: "}"))
    }

    private static func field(_ key: StaticString, _ value: String?, _ line: inout LineBuilder) {
        guard let value else { return }
        line.append(literal: key)
        line.append(quoted: value, limit: self.nameLimit)
    }

    /// `time INFO  GET host/path 200 12.345ms in=0 out=1024 agent=… request_id=…`
    private static func text(_ record: AccessRecord, _ line: inout LineBuilder) {
        line.appendTimestamp()
        line.append(literal: " INFO  ")
        line.append(escaped: record.method, limit: self.methodLimit)
        line.append(UInt8(ascii: " "))
        line.append(escaped: record.host, limit: self.nameLimit)
        line.append(escaped: record.path, limit: self.pathLimit)
        line.append(UInt8(ascii: " "))
        line.append(record.status)
        line.append(UInt8(ascii: " "))
        line.append(milliseconds: record.duration.nanoseconds)
        line.append(literal: "ms in=")
        line.append(record.bytesIn)
        line.append(literal: " out=")
        line.append(record.bytesOut)
        self.pair(" agent=", record.agent, &line)
        self.pair(" service=", record.service, &line)
        self.pair(" client=", record.client, &line)
        self.pair(" error=", record.error, &line)
        self.pair(" request_id=", record.requestID, &line)
    }

    private static func pair(_ key: StaticString, _ value: String?, _ line: inout LineBuilder) {
        guard let value else { return }
        line.append(literal: key)
        line.append(value: value)
    }
}
