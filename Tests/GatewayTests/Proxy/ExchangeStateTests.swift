import Gateway
import Testing

@Suite("The state of an exchange")
struct ExchangeStateTests {
    private func started(hasBody: Bool = true, isWebSocket: Bool = false) -> ExchangeState {
        var state = ExchangeState(hasBody: hasBody, isWebSocket: isWebSocket)
        _ = state.attemptStarted()
        return state
    }

    @Test("FIN follows a request without a body at once, but not an upgrade")
    func finAtOnce() {
        var plain = ExchangeState(hasBody: false, isWebSocket: false)
        var upgrade = ExchangeState(hasBody: false, isWebSocket: true)
        var withBody = ExchangeState(hasBody: true, isWebSocket: false)
        let finishes = [plain.attemptStarted(), upgrade.attemptStarted(), withBody.attemptStarted()]
        #expect(finishes == [true, false, false])
        #expect(!plain.takesBody && upgrade.takesBody && withBody.takesBody)
    }

    @Test("The end of a body starts the response timer and is passed on once")
    func requestCompleted() {
        var state = started()
        let first = state.requestCompleted()
        #expect(first == .complete(startsTimer: true, sendsTrailers: true, finishes: true))
        #expect(state.isRequestComplete && !state.takesBody)
        let second = state.requestCompleted()
        #expect(second == .ignored)
    }

    @Test("A body that ends behind an early response starts no timer")
    func requestCompletedLate() {
        var state = started()
        _ = state.responded(status: 200)
        #expect(state.takesBody)
        let end = state.requestCompleted()
        #expect(end == .complete(startsTimer: false, sendsTrailers: true, finishes: true))
    }

    @Test("Behind STOP_SENDING nothing of the body and no trailers are sent, and FIN is not written")
    func stopped() {
        var state = started()
        let concludes = state.uploadStopped()
        #expect(!concludes && !state.takesBody && !state.isUploadOpen)
        let end = state.requestCompleted()
        #expect(end == .complete(startsTimer: true, sendsTrailers: false, finishes: false))
        _ = state.responded(status: 200)
        let response = state.responseCompleted()
        #expect(response == .complete(resetsUpload: false))
    }

    @Test("A response that is complete before its request resets the upload")
    func earlyResponse() {
        var state = started()
        _ = state.responded(status: 413)
        #expect(state.hasResponded)
        let end = state.responseCompleted()
        #expect(end == .complete(resetsUpload: true))
        var other = started(hasBody: false)
        _ = other.responded(status: 200)
        let otherEnd = other.responseCompleted()
        #expect(otherEnd == .complete(resetsUpload: false))
    }

    @Test("A refused upgrade is an ordinary response: FIN is written with its head")
    func refusedUpgrade() {
        var state = started(hasBody: false, isWebSocket: true)
        let finishes = state.responded(status: 403)
        #expect(finishes && !state.isUpgraded && !state.takesBody)
    }

    @Test(
        "Behind a 101 the exchange ends with the second of its directions, in either order",
        arguments: [true, false]
    )
    func upgrade(clientFirst: Bool) {
        var state = started(hasBody: false, isWebSocket: true)
        let finishes = state.responded(status: 101)
        #expect(!finishes && state.isUpgraded && state.takesBody && !state.isRequestComplete)
        if clientFirst {
            let end = state.requestCompleted()
            #expect(end == .directionEnded(finishes: true, concludes: false))
            let response = state.responseCompleted()
            #expect(response == .directionEnded(concludes: true))
        } else {
            let response = state.responseCompleted()
            #expect(response == .directionEnded(concludes: false))
            let end = state.requestCompleted()
            #expect(end == .directionEnded(finishes: true, concludes: true))
        }
    }

    @Test("STOP_SENDING behind a 101 counts as the end of the client's direction")
    func upgradeStopped() {
        var state = started(hasBody: false, isWebSocket: true)
        _ = state.responded(status: 101)
        _ = state.responseCompleted()
        let concludes = state.uploadStopped()
        #expect(concludes)
        let end = state.requestCompleted()
        #expect(end == .directionEnded(finishes: false, concludes: true))
    }

    @Test("A request that may have started is sent again only if its method is idempotent")
    func retry() {
        var state = started(hasBody: false)
        #expect(state.allowsRetry(.always, method: "POST"))
        #expect(!state.allowsRetry(.ifIdempotent, method: "POST"))
        #expect(state.allowsRetry(.ifIdempotent, method: "PUT"))
        #expect(!state.allowsRetry(.never, method: "GET"))
        state.accepted()
        #expect(!state.allowsRetry(.always, method: "POST"))
        #expect(state.allowsRetry(.always, method: "GET"))
        _ = state.attemptStarted()
        #expect(state.allowsRetry(.always, method: "POST"), "ACCEPTED belongs to one attempt")
        _ = state.responded(status: 200)
        #expect(!state.allowsRetry(.always, method: "GET"))
        var upgrade = started(hasBody: false, isWebSocket: true)
        upgrade.accepted()
        #expect(!upgrade.allowsRetry(.ifIdempotent, method: "GET"))
    }

    @Test("A new attempt takes the body again, and counts its 1xx heads from the start")
    func newAttempt() {
        var state = started()
        _ = state.uploadStopped()
        var isWithin = true
        for _ in 0..<32 { isWithin = state.interimHead() && isWithin }
        #expect(isWithin)
        let oneMore = state.interimHead()
        #expect(!oneMore)
        _ = state.attemptStarted()
        #expect(state.takesBody)
        let again = state.interimHead()
        #expect(again)
    }

    @Test("Nothing follows the end")
    func over() {
        var state = started()
        state.conclude()
        #expect(state.isOver && !state.takesBody && !state.hasResponded && !state.isAwaitingHead)
        let end = state.requestCompleted()
        #expect(end == .ignored)
        #expect(!state.allowsRetry(.always, method: "GET"))
    }
}
