import Credentials
import HopProtocol
import NIOCore
import Observability
import Transport
import Tunnel

/// A request that another replica has sent to an attachment of this one. Behind the hop its frames pass unchanged in
/// both directions, and so do the codes with which either side gives up: the two ends decide everything.
///
/// Bytes are credited to one stream when the other one may take more, so that back-pressure reaches through both links.
/// Confined to the loop of the other replica's session; each stream holds its half as its handler.
final class ForwardedRequest {
    private let registry: AgentRegistry
    private let metrics: GatewayMetrics
    private let incarnation: UInt128
    /// The stream of the other replica.
    private let inbound: TunnelStream
    /// The stream to the agent, once the hop was read.
    private var outbound: TunnelStream?
    private var attachment: Attachment?
    private var reader = HopReader()
    private var isRequestOver = false
    private var isResponseOver = false
    /// The bytes that were read from a stream and written to the other one, and not credited yet.
    private var owed = (inbound: 0, outbound: 0)

    private init(_ stream: TunnelStream, registry: AgentRegistry, metrics: GatewayMetrics, incarnation: UInt128) {
        inbound = stream
        self.registry = registry
        self.metrics = metrics
        self.incarnation = incarnation
    }

    /// Serves a stream that another replica has opened. Called on its loop.
    ///
    /// - Parameter incarnation: This replica's.
    static func begin(
        _ stream: TunnelStream,
        registry: AgentRegistry,
        metrics: GatewayMetrics,
        incarnation: UInt128
    ) {
        let request = ForwardedRequest(stream, registry: registry, metrics: metrics, incarnation: incarnation)
        stream.handler = InboundHalf(request)
    }

    // MARK: From the other replica

    fileprivate func received(_ bytes: ByteBuffer) {
        guard outbound == nil else { return pass(bytes) }
        // What follows a refusal has no meaning.
        guard !isRequestOver else { return }
        var rest = bytes
        do throws(HopError) {
            guard let hop = try reader.read(&rest) else { return inbound.consumed(bytes.readableBytes) }
            inbound.consumed(max(0, bytes.readableBytes - rest.readableBytes))
            open(hop)
            if outbound != nil { pass(rest) }
        } catch {
            refuse(.protocolViolation)
        }
    }

    private func open(_ hop: HopHead) {
        // The directory of the other replica is a hint; this one decides.
        guard hop.replica == incarnation, let attachment = registry.accepting(session: hop.session) else {
            return refuse(.notHere)
        }
        guard attachment.hasCapacity else { return refuse(.busy) }
        metrics.forwards[.served].increment()
        attachment.requestStarted()
        self.attachment = attachment
        outbound = attachment.session.openStream(handler: OutboundHalf(self), on: inbound.userLoop)
    }

    private func pass(_ bytes: ByteBuffer) {
        guard let outbound, bytes.readableBytes > 0 else { return }
        outbound.write(bytes)
        owed.inbound += bytes.readableBytes
        if outbound.isWritable { creditInbound() }
    }

    private func creditInbound() {
        inbound.consumed(owed.inbound)
        owed.inbound = 0
    }

    private func refuse(_ code: HopCode) {
        metrics.forwards[.refused].increment()
        (isRequestOver, isResponseOver) = (true, true)
        inbound.reset(code.wireCode)
        inbound.stopSending(code.wireCode)
    }

    fileprivate func requestFinished() {
        isRequestOver = true
        if outbound == nil, !isResponseOver { return refuse(.protocolViolation) }
        outbound?.finish()
        // A finished stream never becomes writable again.
        creditInbound()
        releaseIfOver()
    }

    /// The other replica has given up, for its client or for a reason of its own.
    fileprivate func inboundFailed(_ failure: StreamFailure) {
        var code = ApplicationErrorCode.cancelled
        if case .reset(let reset) = failure.reason { code = reset }
        outbound?.reset(code)
        // Behind a complete response the reset only ends the upload.
        if !isResponseOver { outbound?.stopSending(code) }
        (isRequestOver, isResponseOver) = (true, true)
        releaseIfOver()
    }

    fileprivate func inboundStopped(_ code: ApplicationErrorCode) {
        isResponseOver = true
        outbound?.stopSending(code)
        releaseIfOver()
    }

    fileprivate func inboundWritable() {
        outbound?.consumed(owed.outbound)
        owed.outbound = 0
    }

    // MARK: From the agent

    fileprivate func answered(_ bytes: ByteBuffer) {
        inbound.write(bytes)
        owed.outbound += bytes.readableBytes
        if inbound.isWritable { inboundWritable() }
    }

    fileprivate func responseFinished() {
        isResponseOver = true
        inbound.finish()
        inboundWritable()
        releaseIfOver()
    }

    fileprivate func outboundFailed(_ failure: StreamFailure) {
        let code: ApplicationErrorCode
        switch failure.reason {
        case .reset(let reset): code = reset
        // What was never sent did not start, and may run elsewhere.
        case .refused: code = .notHere
        // As if the session had been this request's own: the other replica may repeat what is idempotent.
        case .sessionEnded: code = failure.anyByteSent ? HopCode.idle.wireCode : .notHere
        }
        (isRequestOver, isResponseOver) = (true, true)
        inbound.reset(code)
        inbound.stopSending(code)
        releaseIfOver()
    }

    fileprivate func outboundStopped(_ code: ApplicationErrorCode) {
        isRequestOver = true
        // What was read and cannot be passed on must not hold up the other replica.
        creditInbound()
        inbound.stopSending(code)
        releaseIfOver()
    }

    fileprivate func outboundWritable() { creditInbound() }

    private func releaseIfOver() {
        guard isRequestOver, isResponseOver else { return }
        attachment?.requestEnded()
        attachment = nil
    }
}

@available(*, unavailable)
extension ForwardedRequest: Sendable {}

private final class InboundHalf: StreamHandler {
    private let request: ForwardedRequest

    init(_ request: ForwardedRequest) { self.request = request }

    func streamRead(_ bytes: ByteBuffer) { request.received(bytes) }
    func streamFinished() { request.requestFinished() }
    func streamFailed(_ failure: StreamFailure) { request.inboundFailed(failure) }
    func streamStopped(code: ApplicationErrorCode) { request.inboundStopped(code) }
    func streamWritable() { request.inboundWritable() }
}

private final class OutboundHalf: StreamHandler {
    private let request: ForwardedRequest

    init(_ request: ForwardedRequest) { self.request = request }

    func streamRead(_ bytes: ByteBuffer) { request.answered(bytes) }
    func streamFinished() { request.responseFinished() }
    func streamFailed(_ failure: StreamFailure) { request.outboundFailed(failure) }
    func streamStopped(code: ApplicationErrorCode) { request.outboundStopped(code) }
    func streamWritable() { request.outboundWritable() }
}
