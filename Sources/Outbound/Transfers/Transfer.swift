internal import CCurl
internal import Glibc
internal import NIOCore

/// One hop of an exchange in libcurl's hands: the request itself, or one that follows a redirect. Confined to the
/// transfer thread.
final class Transfer {
    /// What comes after a hop.
    enum Step {
        case finish(PendingTransfer.Outcome)
        case follow(OutboundURL)
    }

    let exchange: PendingTransfer
    let url: OutboundURL
    /// Redirects so far.
    let hop: Int
    private let limits: OutboundLimits
    private var parts: ResponseParts
    private var fault: ResponseFault?
    private(set) var handle: OpaquePointer?

    init(_ exchange: PendingTransfer, url: OutboundURL, hop: Int, limits: OutboundLimits) {
        self.exchange = exchange
        self.url = url
        self.hop = hop
        self.limits = limits
        parts = ResponseParts(hasBody: exchange.request.method != .head, limits: limits)
    }

    deinit { ccurl_transfer_destroy(handle) }

    /// False: memory is short.
    func prepare(userAgent: String, usesProxy: Bool, now: NIODeadline) -> Bool {
        let request = exchange.request
        var description = ccurl_request()
        description.has_body = request.hasBody
        description.may_repeat = request.mayRepeat
        description.uses_proxy = usesProxy && !url.isLoopback
        description.connect_timeout = Self.milliseconds(limits.connect)
        // 0 would mean no limit.
        description.total_timeout = max(1, Self.milliseconds(exchange.deadline - now))
        // The length that a response to HEAD announces is not sent.
        description.body_limit = request.method == .head ? 0 : Int64(limits.responseBody)
        description.idle_limit = max(1, Self.milliseconds(limits.idle) / 1_000)
        return withStrings(request, userAgent) { strings in
            description.url = strings.url
            description.scheme = strings.scheme
            description.method = strings.method
            description.user_agent = strings.userAgent
            description.authorities_file = strings.authorities
            return request.body.withUnsafeBufferPointer { body in
                description.body = body.baseAddress
                description.body_count = body.count
                return self.withAuthorities(request.trust) { authorities in
                    description.authorities = authorities?.baseAddress
                    description.authorities_count = authorities?.count ?? 0
                    return strings.lines.withUnsafeBufferPointer { lines in
                        description.fields = lines.baseAddress
                        description.field_count = lines.count
                        handle = create(&description)
                        return handle != nil
                    }
                }
            }
        }
    }

    private func create(_ description: inout ccurl_request) -> OpaquePointer? {
        ccurl_transfer_create(
            &description,
            // The thread keeps this object as long as the handle can call back.
            Unmanaged.passUnretained(self).toOpaque(),
            { owner, bytes, count in
                Transfer.from(owner).receive(line: UnsafeBufferPointer(start: bytes, count: count))
            },
            { owner, bytes, count in
                Transfer.from(owner).receive(body: UnsafeBufferPointer(start: bytes, count: count))
            }
        )
    }

    static func from(_ owner: UnsafeMutableRawPointer?) -> Transfer {
        Unmanaged<Transfer>.fromOpaque(owner!).takeUnretainedValue()
    }

    // MARK: What arrives

    private func receive(line: UnsafeBufferPointer<UInt8>) -> Bool {
        receive { (parts: inout ResponseParts) throws(ResponseFault) in
            try parts.receive(line: line, now: Self.wallClock)
        }
    }

    private func receive(body: UnsafeBufferPointer<UInt8>) -> Bool {
        receive { (parts: inout ResponseParts) throws(ResponseFault) in try parts.receive(body: body) }
    }

    private func receive(_ take: (inout ResponseParts) throws(ResponseFault) -> Void) -> Bool {
        if exchange.isFinished { return false }
        do {
            try take(&parts)
            return true
        } catch {
            fault = error
            return false
        }
    }

    // MARK: The end

    func ended(_ result: ccurl_result) -> Step {
        if let fault { return .finish(.failure(OutboundError(fault, url: url, limits: limits))) }
        guard result.outcome == CCURL_DONE else {
            return .finish(
                .failure(
                    OutboundError(
                        result,
                        url: url,
                        hasHead: parts.hasBegun,
                        isRedirected: hop > 0,
                        limits: limits
                    )
                )
            )
        }
        guard parts.isComplete else {
            let fault = ResponseFault.malformed("it ended without a final status")
            return .finish(.failure(OutboundError(fault, url: url, limits: limits)))
        }
        do throws(OutboundError) {
            if let next = try redirect() { return .follow(next) }
        } catch {
            return .finish(.failure(error))
        }
        return .finish(
            .success(
                OutboundResponse(
                    status: parts.status,
                    fields: parts.fields,
                    body: parts.body,
                    url: url.text,
                    receivedAt: parts.receivedAt
                )
            )
        )
    }

    /// Where to ask instead; nil: the response is the last.
    private func redirect() throws(OutboundError) -> OutboundURL? {
        guard [301, 302, 303, 307, 308].contains(parts.status), let location = parts.fields["location"] else {
            return nil
        }
        let method = exchange.request.method
        guard method == .get || method == .head else {
            throw refused("a redirect of \(method.rawValue), which is not repeated elsewhere")
        }
        guard hop < limits.redirects else { throw refused("more than \(limits.redirects) redirects, maybe a loop") }
        let next: OutboundURL
        do {
            next = try OutboundURL(location, relativeTo: url, limit: limits.url)
        } catch {
            throw refused("a redirect to something that \(CheckedRequest.reason(error, limits))")
        }
        guard next.origin == url.origin else { throw refused("a redirect to another server, \(next.origin)") }
        return next
    }

    private func refused(_ what: String) -> OutboundError {
        OutboundError(.redirectRefused, url.shown, "\(what); configure the final URL", mayHaveArrived: true)
    }

    // MARK: Conversions

    static func milliseconds(_ time: TimeAmount) -> Int64 {
        max(0, time.nanoseconds / 1_000_000)
    }

    private static func wallClock() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
    }
}
