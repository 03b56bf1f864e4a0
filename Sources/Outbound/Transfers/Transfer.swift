import CCurl
import Glibc
import NIOCore

/// One hop of a ``PendingTransfer`` as a libcurl easy handle: the request itself, or one that follows a redirect.
/// Confined to the transfer thread.
final class Transfer {
    /// The step after a hop has ended.
    enum Step {
        case finish(PendingTransfer.Outcome)
        case redirect(OutboundURL)
    }

    let pending: PendingTransfer
    let url: OutboundURL
    /// The number of redirects before this hop.
    let hop: Int
    private let limits: OutboundLimits
    private var parts: ResponseParts
    private var fault: ResponseFault?
    private(set) var handle: OpaquePointer?

    init(_ pending: PendingTransfer, url: OutboundURL, hop: Int, limits: OutboundLimits) {
        self.pending = pending
        self.url = url
        self.hop = hop
        self.limits = limits
        parts = ResponseParts(hasBody: pending.request.method != .head, limits: limits)
    }

    deinit { ccurl_transfer_destroy(handle) }

    /// Creates the libcurl handle.
    ///
    /// - Returns: `false` if memory is exhausted.
    func prepare(userAgent: String, usesProxy: Bool, now: NIODeadline) -> Bool {
        let request = pending.request
        var description = ccurl_request()
        description.has_body = request.hasBody
        description.may_repeat = request.mayRepeat
        description.uses_proxy = usesProxy && !url.isLoopback
        description.connect_timeout = Self.milliseconds(limits.connect)
        // 0 would mean no limit.
        description.total_timeout = max(1, Self.milliseconds(pending.deadline - now))
        // A response to HEAD announces the length of a body that is not sent.
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
            // The driver holds this object as long as libcurl can call back.
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

    // MARK: Receiving

    private func receive(line: UnsafeBufferPointer<UInt8>) -> Bool {
        receive { (parts: inout ResponseParts) throws(ResponseFault) in
            try parts.receive(line: line, now: Self.wallClock)
        }
    }

    private func receive(body: UnsafeBufferPointer<UInt8>) -> Bool {
        receive { (parts: inout ResponseParts) throws(ResponseFault) in try parts.receive(body: body) }
    }

    private func receive(_ consume: (inout ResponseParts) throws(ResponseFault) -> Void) -> Bool {
        if pending.isFinished { return false }
        do {
            try consume(&parts)
            return true
        } catch {
            fault = error
            return false
        }
    }

    // MARK: Completion

    /// Turns libcurl's result into the outcome of the request, or into a redirect to follow.
    func complete(_ result: ccurl_result) -> Step {
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
            if let next = try redirectTarget() { return .redirect(next) }
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

    /// The URL of the redirect to follow, or `nil` if the response is final.
    ///
    /// - Throws: ``OutboundError`` if the redirect is refused.
    private func redirectTarget() throws(OutboundError) -> OutboundURL? {
        guard [301, 302, 303, 307, 308].contains(parts.status), let location = parts.fields["location"] else {
            return nil
        }
        let method = pending.request.method
        guard method == .get || method == .head else {
            throw redirectRefused("a redirect of \(method.rawValue), which is not repeated elsewhere")
        }
        guard hop < limits.redirects else {
            throw redirectRefused("more than \(limits.redirects) redirects, maybe a loop")
        }
        let next: OutboundURL
        do {
            next = try OutboundURL(location, relativeTo: url, limit: limits.url)
        } catch {
            throw redirectRefused("a redirect to something that \(CheckedRequest.reason(error, limits))")
        }
        guard next.origin == url.origin else { throw redirectRefused("a redirect to another server, \(next.origin)") }
        return next
    }

    private func redirectRefused(_ what: String) -> OutboundError {
        OutboundError(.redirectRefused, url.redacted, "\(what); configure the final URL", mayHaveArrived: true)
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
