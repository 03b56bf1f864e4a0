import Agent
import HopProtocol
import NIOCore
import Settings
import TestSupport
import Testing
import Transport

@Suite(.serialized)
struct AdmissionTests {
    @Test("Requests beyond max_requests are BUSY, before anything is recorded or called")
    func busy() async throws {
        let origin = try await TestOrigin { _, _ in }
        try await Rig.with(origin, change: { $0.maxRequests = 3 }) { rig in
            var calls: [ClientCall] = []
            for _ in 0..<3 { calls.append(try await rig.gateway.call(try await rig.head())) }
            try await origin.log.wait("three requests") { $0.requests.count == 3 }
            let head = try await rig.head("POST")
            let fourth = try await rig.gateway.call(head).over()
            #expect(fourth.code == .busy && !fourth.isAccepted)
            try await calls[0].cancel()
            try await eventually("room") { rig.agent.agent.requestsInFlight == 2 }
            // BUSY proved that the request had not started: the same id is accepted.
            let again = try await rig.gateway.call(head)
            try await again.log.wait("ACCEPTED") { $0.isAccepted }
        }
    }

    @Test("A service that the agent does not offer is UNKNOWN_SERVICE")
    func unknownService() async throws {
        try await Rig.with(try await TestOrigin.simple()) { rig in
            let log = try await rig.gateway.call(try await rig.head(service: "other")).over()
            #expect(log.code == .unknownService && !log.isAccepted)
        }
    }

    @Test("A request for another run is WRONG_RUN")
    func wrongRun() async throws {
        try await Rig.with(try await TestOrigin.simple()) { rig in
            var head = try await rig.head()
            head.run = .random()
            let log = try await rig.gateway.call(head).over()
            #expect(log.code == .wrongRun && !log.isAccepted)
        }
    }

    @Test("A non-idempotent id runs once; a second attempt is ALREADY_RAN")
    func alreadyRan() async throws {
        let origin = try await TestOrigin.simple()
        try await Rig.with(origin) { rig in
            var head = try await rig.head("POST")
            try await expect { try await rig.gateway.call(head).over().isComplete }
            head.attempt = 2
            let again = try await rig.gateway.call(head).over()
            #expect(again.code == .alreadyRan && !again.isAccepted)
            #expect(origin.log.value.requests.count == 1)
        }
    }

    @Test("A full ledger answers BUSY to non-idempotent requests, and the metrics show both")
    func ledgerFull() async throws {
        let origin = try await TestOrigin.simple()
        try await Rig.with(
            origin,
            ledgerCapacity: 2,
            change: {
                $0.opsListen = ListenAddress(host: "127.0.0.1", port: 0)
                $0.opsListenIsExplicit = true
            }
        ) { rig in
            for _ in 0..<2 {
                try await expect { try await rig.gateway.call(try await rig.head("POST")).over().isComplete }
            }
            let third = try await rig.gateway.call(try await rig.head("POST")).over()
            #expect(third.code == .busy && !third.isAccepted)
            try await expect { try await rig.get().isComplete }
            #expect(origin.log.value.requests.count == 3)
            try await eventually("the ops port") { rig.agent.agent.opsListenPort != nil }
            let metrics = try await httpGet(try #require(rig.agent.agent.opsListenPort), "/metrics")
            #expect(metrics.contains("\nhopagent_request_ledger_entries 2\n"))
            #expect(metrics.contains("\nhopagent_request_ledger_full_total 1\n"))
        }
    }

    @Test("A higher attempt of an idempotent id ends the older one and runs; a lower one is STALE")
    func replaced() async throws {
        let origin = try await TestOrigin { peer, request in
            if request.requestLine.contains("hang") { return }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        try await Rig.with(origin) { rig in
            var head = try await rig.head("GET", "/hang", attempt: 2)
            let first = try await rig.gateway.call(head)
            try await first.log.wait("ACCEPTED") { $0.isAccepted }
            head.attempt = 1
            try await expect { try await rig.gateway.call(head).over().code == .stale }
            head.attempt = 3
            head.path = "/"
            try await expect { try await rig.gateway.call(head).over().isComplete }
            try await expect { try await first.over().code == .stale }
        }
    }

    @Test("Frames that violate the protocol reset their stream and nothing else")
    func violation() async throws {
        try await Rig.with(try await TestOrigin.simple()) { rig in
            let session = try await rig.gateway.session()
            let call = try await rig.gateway.call(try await rig.head("POST"), finish: false)
            let stream = call.stream
            try await stream.userLoop.submit { stream.write(ByteBuffer(bytes: [0x1F, 0x00])) }.get()
            try await expect { try await call.over().code == .protocolViolation }
            try await expect { try await rig.get().isComplete }
            #expect(rig.gateway.sessions.value.count == 1 && rig.gateway.sessions.value.first === session)
        }
    }
}
