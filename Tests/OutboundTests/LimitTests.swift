import Foundation
import Outbound
import TestSupport
import Testing

extension OutboundTests {
    @Suite("Limits while receiving")
    struct LimitTests {
        private static let limit = 1 << 20

        @Test("A body of exactly the limit is received, in any framing", arguments: ["length", "chunked"])
        func largest(_ framing: String) async throws {
            let body = [UInt8](repeating: 0x61, count: Self.limit)
            let server = try await HostileServer { conversation in
                let fields = framing == "length" ? "Content-Length: \(body.count)" : "Transfer-Encoding: chunked"
                conversation.send("HTTP/1.1 200 OK\r\n\(fields)\r\n\r\n")
                if framing == "chunked" { conversation.send("100000\r\n") }
                conversation.send(body)
                if framing == "chunked" { conversation.send("\r\n0\r\n\r\n") }
            }
            try await withClient { client in
                let response = try await client.send(OutboundRequest(.get, server.url()))
                #expect(response.body == body)
            }
            await server.stop()
        }

        @Test("An announced body over the limit is refused before any of it is read")
        func announced() async throws {
            for length in ["1048577", "99999999999", "99999999999999999999999"] {
                let server = try await HostileServer { $0.send("HTTP/1.1 200 OK\r\nContent-Length: \(length)\r\n\r\n") }
                try await withClient { client in
                    let error = try #require(await failure(client, OutboundRequest(.get, server.url())))
                    #expect(error.code == .tooLarge(.body))
                    let response = try await client.send(OutboundRequest(.head, server.url()))
                    #expect(response.fields["content-length"] == length)
                }
                await server.stop()
            }
        }

        @Test("An endless body ends at the limit")
        func endless() async throws {
            let server = try await HostileServer { conversation in
                conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                conversation.sendForever(Array("4000\r\n\(String(repeating: "a", count: 0x4000))\r\n".utf8))
            }
            try await withClient { client in
                let error = try #require(await failure(client, OutboundRequest(.get, server.url())))
                #expect(error.code == .tooLarge(.body))
                #expect(error.mayHaveArrived)
                try await eventually("the connection is closed") { server.open == 0 }
            }
            await server.stop()
        }

        @Test(
            "An endless head ends at the limit",
            arguments: ["X-A: \(String(repeating: "a", count: 1_000))\r\n", "X-A: a\r\n", "aaaaaaaaaaaaaaaa"]
        )
        func endlessHead(_ piece: String) async throws {
            let server = try await HostileServer { conversation in
                conversation.send("HTTP/1.1 200 OK\r\nX-First: ")
                conversation.sendForever(Array(String(repeating: piece, count: 16).utf8))
            }
            try await withClient { client in
                let error = try #require(await failure(client, OutboundRequest(.get, server.url())))
                #expect(error.code == .tooLarge(.head))
            }
            await server.stop()
        }

        @Test("128 fields are accepted, 129 are refused")
        func fields() async throws {
            let server = try await HostileServer { conversation in
                let count = Int(conversation.path.dropFirst())!
                let fields = (1..<count).map { "X-\($0): a\r\n" }.joined()
                conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\(fields)\r\n")
            }
            try await withClient { client in
                let response = try await client.send(OutboundRequest(.get, server.url("/128")))
                #expect(response.fields.all.count == 128)
                let error = await failure(client, OutboundRequest(.get, server.url("/129")))
                #expect(error?.code == .tooLarge(.head))
            }
            await server.stop()
        }

        @Test("Interim responses are skipped and count towards the limit of heads")
        func interim() async throws {
            let server = try await HostileServer { conversation in
                let interim = "HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n"
                if conversation.path == "/few" {
                    conversation.send(
                        "HTTP/1.1 100 Continue\r\n\r\n\(interim)HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                    )
                } else {
                    conversation.sendForever(Array(interim.utf8))
                }
            }
            try await withClient { client in
                let response = try await client.send(OutboundRequest(.get, server.url("/few")))
                #expect(response.status == 200)
                #expect(response.body == Array("ok".utf8))
                #expect(response.fields["link"] == nil)
                let error = await failure(client, OutboundRequest(.get, server.url("/many")))
                #expect(error?.code == .tooLarge(.head))
            }
            await server.stop()
        }

        @Test("A compressed body that was not asked for stays compressed")
        func compressed() async throws {
            let bomb = GzipBomb.shared
            let server = try await HostileServer { conversation in
                conversation.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: \(bomb.count)\r\n\r\n")
                conversation.send(bomb)
            }
            try await withClient { client in
                let response = try await client.send(OutboundRequest(.get, server.url()))
                #expect(response.body == bomb)
                #expect(response.fields["content-encoding"] == "gzip")
            }
            await server.stop()
        }

        @Test("A compressed transfer coding cannot grow beyond the limit")
        func compressedTransfer() async throws {
            let bomb = GzipBomb.shared
            let server = try await HostileServer { conversation in
                conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
                conversation.send("\(String(bomb.count, radix: 16))\r\n")
                conversation.send(bomb)
                conversation.send("\r\n0\r\n\r\n")
            }
            try await withClient { client in
                let error = try #require(await failure(client, OutboundRequest(.get, server.url())))
                #expect(error.code == .tooLarge(.body) || error.code == .malformed)
            }
            await server.stop()
        }
    }
}

/// 64 MiB of zeroes, compressed by gzip(1).
enum GzipBomb {
    static let shared: [UInt8] = {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "head -c 67108864 /dev/zero | gzip -9"]
        let pipe = Pipe()
        process.standardOutput = pipe
        try! process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Array(output)
    }()
}
