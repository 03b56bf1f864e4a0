import Agent
import HopProtocol
import Testing

struct OriginExchangeStateMachineTests {
    typealias Machine = OriginExchangeStateMachine
    typealias Ending = OriginExchangeStateMachine.Ending

    /// A machine whose request was admitted.
    static func admitted(_ framing: OriginRequest.Framing?) -> Machine {
        var machine = Machine()
        machine.slotAcquired()
        machine.recorded()
        let action = machine.headAdmitted(framing: framing)
        #expect(action == (framing == nil ? .awaitBody : .connect))
        return machine
    }

    /// A machine whose request head was written to an origin.
    static func exchanging(_ framing: OriginRequest.Framing) -> Machine {
        var machine = admitted(framing)
        #expect(machine.connected() == framing)
        return machine
    }

    /// A machine with an upgraded connection.
    static func upgraded() -> Machine {
        var machine = exchanging(.none)
        #expect(machine.heldBodyWritten() == .completed)
        #expect(machine.responseHeadReceived(status: 101, acceptsUpgrade: true) == .forwardAndUpgrade)
        #expect(machine.upgraded() == .relay)
        return machine
    }

    static func ending(
        _ code: HopCode?,
        status: Int = 0,
        connection: Ending.Connection = .close,
        ledger: Ending.Ledger = .end,
        releasesSlot: Bool = true,
        stopsUpload: Bool = false
    ) -> Ending {
        Ending(
            code: code,
            status: status,
            connection: connection,
            ledger: ledger,
            releasesSlot: releasesSlot,
            stopsUpload: stopsUpload
        )
    }

    // MARK: The request

    @Test("A request without a body goes out with its head, and its connection is recycled")
    func withoutBody() {
        var machine = Self.admitted(nil)
        #expect(!machine.isConnecting)
        #expect(machine.requestEnded(method: "GET") == .connect)
        #expect(machine.isConnecting && !machine.isRetry)
        #expect(machine.connected() == .none)
        #expect(machine.isAwaitingResponseHead)
        #expect(machine.heldBodyWritten() == .completed)
        #expect(machine.responseHeadReceived(status: 200, acceptsUpgrade: false) == .forward)
        #expect(!machine.isAwaitingResponseHead)
        #expect(machine.responseEnded() == Self.ending(nil, status: 200, connection: .recycle))
        #expect(machine.isDone)
        #expect(machine.responseEnded() == nil && machine.abort(.cancelled) == nil)
    }

    @Test("An empty POST, PUT or PATCH announces a length of 0", arguments: ["POST", "PUT", "PATCH", "DELETE"])
    func emptyBody(method: String) {
        var machine = Self.admitted(nil)
        #expect(machine.requestEnded(method: method) == .connect)
        #expect(machine.connected() == (method == "DELETE" ? .none : .length(0)))
        #expect(machine.heldBodyWritten() == .completed)
    }

    @Test("A body with Content-Length is complete with its last byte, and its end changes nothing")
    func lengthBody() {
        var machine = Self.exchanging(.length(5))
        #expect(machine.heldBodyWritten() == .none)
        #expect(machine.bodyReceived(3) == .forward(completes: false))
        #expect(machine.bodyReceived(2) == .forward(completes: true))
        #expect(machine.requestEnded(method: "POST") == .none)
    }

    @Test("A first body byte without Content-Length decides for chunks; the last chunk follows the end")
    func chunkedBody() {
        var machine = Self.admitted(nil)
        #expect(machine.bodyReceived(3) == .holdAndConnect)
        #expect(machine.bodyReceived(4) == .hold)
        #expect(machine.connected() == .chunked)
        #expect(machine.bodyReceived(3) == .forwardChunk(isFirst: true))
        #expect(machine.bodyReceived(4) == .forwardChunk(isFirst: false))
        #expect(machine.heldBodyWritten() == .none)
        #expect(machine.requestEnded(method: "POST") == .writeLastChunk(isFirst: false))
        #expect(machine.requestEnded(method: "POST") == .none)
    }

    @Test("A request whose body is late goes out in chunks, and may still turn out empty")
    func lateBody() {
        var machine = Self.admitted(nil)
        #expect(machine.deadlineReached(owesCredit: false) == .connect)
        #expect(machine.connected() == .chunked)
        #expect(machine.heldBodyWritten() == .none)
        #expect(machine.requestEnded(method: "GET") == .writeLastChunk(isFirst: true))
    }

    @Test("A request that ends before there is a connection is completed once it is written")
    func endsWhileConnecting() {
        var machine = Self.admitted(nil)
        #expect(machine.bodyReceived(3) == .holdAndConnect)
        #expect(machine.requestEnded(method: "POST") == .none)
        _ = machine.connected()
        #expect(machine.bodyReceived(3) == .forwardChunk(isFirst: true))
        #expect(machine.heldBodyWritten() == .writeLastChunk(isFirst: false))
    }

    @Test("The body of an upgrade that the origin refused is discarded")
    func refusedUpgrade() {
        var machine = Self.exchanging(.none)
        #expect(machine.heldBodyWritten() == .completed)
        #expect(machine.bodyReceived(7) == .discard)
        #expect(machine.responseHeadReceived(status: 200, acceptsUpgrade: false) == .forward)
        #expect(machine.bodyReceived(7) == .discard)
        // The upload is not stopped: the origin has the whole request.
        #expect(machine.responseEnded() == Self.ending(nil, status: 200, connection: .recycle))
    }

    // MARK: The response

    @Test("A response that is complete before the request stops the upload and closes the connection")
    func earlyResponse() {
        var machine = Self.exchanging(.length(100))
        #expect(machine.bodyReceived(4) == .forward(completes: false))
        #expect(machine.responseHeadReceived(status: 413, acceptsUpgrade: false) == .forward)
        #expect(machine.responseEnded() == Self.ending(nil, status: 413, stopsUpload: true))
    }

    @Test("A 101 that was not asked for is ORIGIN_PROTOCOL")
    func unexpectedUpgrade() {
        var machine = Self.exchanging(.none)
        _ = machine.heldBodyWritten()
        #expect(machine.responseHeadReceived(status: 101, acceptsUpgrade: false) == .abort(.originProtocol))
        #expect(machine.abort(.originProtocol) == Self.ending(.originProtocol, status: 101, stopsUpload: true))
        #expect(machine.upgraded() == .ignore)
    }

    // MARK: Upgrades

    @Test("An upgraded connection ends when both directions have ended, in either order")
    func upgradeEnds() {
        var client = Self.upgraded()
        #expect(client.bodyReceived(9) == .forwardRaw)
        #expect(client.requestEnded(method: "GET") == .closeOutput(nil))
        #expect(client.rawResponseEnded() == .finishAndEnd(Self.ending(nil, status: 101)))
        #expect(client.isDone && client.rawResponseEnded() == .ignore)
        var origin = Self.upgraded()
        #expect(origin.rawResponseEnded() == .finish)
        #expect(origin.rawResponseEnded() == .ignore)
        #expect(origin.bodyReceived(9) == .forwardRaw)
        #expect(origin.requestEnded(method: "GET") == .closeOutput(Self.ending(nil, status: 101)))
        #expect(origin.isDone)
    }

    @Test("An upgrade whose request has ended already half-closes the connection at once")
    func upgradeOfEndedRequest() {
        var machine = Self.admitted(OriginRequest.Framing.none)
        #expect(machine.requestEnded(method: "GET") == .none)
        _ = machine.connected()
        #expect(machine.heldBodyWritten() == .completed)
        #expect(machine.responseHeadReceived(status: 101, acceptsUpgrade: true) == .forwardAndUpgrade)
        #expect(machine.upgraded() == .relayAndCloseOutput)
        #expect(machine.abort(.cancelled) == Self.ending(.cancelled, status: 101, connection: .reset))
    }

    @Test("An aborted upgrade resets the connection")
    func upgradeAborted() {
        var machine = Self.upgraded()
        #expect(machine.deadlineReached(owesCredit: true) == .clear)
        let failure = machine.connectionFailed(isTruncated: true, isStale: false, isIdempotent: true)
        #expect(failure == .abort(.originAborted))
        let ending = Self.ending(.originAborted, status: 101, connection: .reset, stopsUpload: true)
        #expect(machine.abort(.originAborted) == ending)
    }

    // MARK: Failures

    @Test("A stale pooled connection is replaced once, for an idempotent request without a sent body")
    func retry() {
        var machine = Self.exchanging(.none)
        _ = machine.heldBodyWritten()
        #expect(machine.connectionFailed(isTruncated: true, isStale: true, isIdempotent: true) == .retry)
        #expect(machine.isConnecting && machine.isRetry)
        #expect(machine.connectFailed() == .originAborted)
        #expect(machine.connected() == .none)
        // The request is sent again as a whole.
        #expect(machine.heldBodyWritten() == .completed)
        let second = machine.connectionFailed(isTruncated: true, isStale: true, isIdempotent: true)
        #expect(second == .abort(.originAborted))
    }

    @Test("A retry keeps the framing and the end of the request")
    func retryChunked() {
        var machine = Self.exchanging(.chunked)
        #expect(machine.requestEnded(method: "PUT") == .writeLastChunk(isFirst: true))
        #expect(machine.connectionFailed(isTruncated: true, isStale: true, isIdempotent: true) == .retry)
        #expect(machine.connected() == .chunked)
        #expect(machine.heldBodyWritten() == .writeLastChunk(isFirst: true))
    }

    @Test("No retry for a fresh connection, a non-idempotent request, bad input, a sent body or a begun response")
    func noRetry() {
        func failure(
            _ prepare: (inout Machine) -> Void = { _ in },
            truncated: Bool = true,
            stale: Bool = true,
            idempotent: Bool = true
        ) -> Machine.FailureAction {
            var machine = Self.exchanging(.length(9))
            prepare(&machine)
            return machine.connectionFailed(isTruncated: truncated, isStale: stale, isIdempotent: idempotent)
        }
        #expect(failure() == .retry)
        #expect(failure(stale: false) == .abort(.originAborted))
        #expect(failure(idempotent: false) == .abort(.originAborted))
        #expect(failure(truncated: false) == .abort(.originProtocol))
        #expect(failure({ _ = $0.bodyReceived(1) }) == .abort(.originAborted))
        #expect(failure({ _ = $0.bodyReceived(9) }) == .abort(.originAborted))
        #expect(
            failure({ _ = $0.responseHeadReceived(status: 200, acceptsUpgrade: false) }) == .abort(.originAborted)
        )
    }

    @Test("An unreachable origin removes the id from the ledger: the request may come again")
    func unreachable() {
        var machine = Self.admitted(OriginRequest.Framing.none)
        #expect(machine.connectFailed() == .originUnreachable)
        let ending = Self.ending(.originUnreachable, ledger: .remove, stopsUpload: true)
        #expect(machine.abort(.originUnreachable) == ending)
        #expect(machine.connectFailed() == nil && !machine.isConnecting)
    }

    // MARK: Time

    @Test("The deadline aborts with the code of the state")
    func deadlines() {
        var machine = Machine()
        #expect(machine.deadlineReached(owesCredit: false) == .abort(.protocolViolation))
        machine = Self.admitted(.length(9))
        #expect(machine.deadlineReached(owesCredit: false) == .abort(.deadline))
        machine = Self.exchanging(.length(9))
        // The client is slow, unless the origin does not accept what has arrived.
        #expect(machine.deadlineReached(owesCredit: false) == .extend)
        #expect(machine.deadlineReached(owesCredit: true) == .abort(.originTimeout))
        _ = machine.bodyReceived(9)
        #expect(machine.deadlineReached(owesCredit: false) == .abort(.originTimeout))
        _ = machine.abort(.originTimeout)
        #expect(machine.deadlineReached(owesCredit: false) == .clear)
    }

    // MARK: Aborts

    @Test("An abort gives back exactly what was obtained for the request")
    func admission() {
        var machine = Machine()
        let ending = Self.ending(.refused, ledger: .none, releasesSlot: false, stopsUpload: true)
        #expect(machine.abort(.refused) == ending)
        machine = Machine()
        machine.slotAcquired()
        #expect(machine.abort(.alreadyRan) == Self.ending(.alreadyRan, ledger: .none, stopsUpload: true))
        machine = Self.admitted(nil)
        #expect(machine.abort(.stale) == Self.ending(.stale, stopsUpload: true))
    }

    @Test("An abort resets the connection while the request is incomplete, and stops an upload that has not ended")
    func aborts() {
        var machine = Self.exchanging(.length(9))
        let incomplete = Self.ending(.cancelled, connection: .reset, stopsUpload: true)
        #expect(machine.abort(.cancelled) == incomplete)
        machine = Self.exchanging(.length(9))
        _ = machine.bodyReceived(9)
        #expect(machine.abort(.cancelled) == Self.ending(.cancelled, stopsUpload: true))
        machine = Self.exchanging(.length(9))
        _ = machine.bodyReceived(9)
        _ = machine.requestEnded(method: "POST")
        #expect(machine.abort(.cancelled) == Self.ending(.cancelled))
        machine = Self.admitted(nil)
        _ = machine.requestEnded(method: "GET")
        #expect(machine.abort(.cancelled) == Self.ending(.cancelled))
    }
}
