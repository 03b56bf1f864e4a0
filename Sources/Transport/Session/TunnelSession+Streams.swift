import NIOCore
import Tunnel

/// The session's half of its streams, and the tunnel's events about them. All on the session's loop.
extension TunnelSession {
    // MARK: Calls of users

    /// Opens a stream in the tunnel, or refuses it.
    func open(_ stream: TunnelStream) {
        guard case .unopened = stream.state else { return }
        guard phase == .open, let tunnel, let id = tunnel.openStream() else {
            stream.state = .closed
            // The tunnel may have to send STREAMS_BLOCKED.
            context.touch(self)
            refuse(stream)
            return
        }
        stream.state = .open(id)
        streams[id.rawValue] = stream
    }

    private func refuse(_ stream: TunnelStream) {
        if stream.isLocal {
            context.scheduleRefusal(stream)
        } else {
            context.post(
                .failed(stream, StreamFailure(reason: .refused, anyByteSent: false)),
                to: stream.userContext
            )
        }
    }

    /// Returns the stream's id if the stream is usable. A stream that was handed over by a third loop may be used
    /// before its `open` message arrives here; it is then opened here.
    private func id(of stream: TunnelStream) -> StreamID? {
        if case .unopened = stream.state { open(stream) }
        guard case .open(let id) = stream.state else { return nil }
        return id
    }

    func write(_ stream: TunnelStream, _ bytes: ByteBuffer) {
        guard let id = self.id(of: stream), let tunnel else { return }
        tunnel.write(id, bytes)
        stream.accepted &+= bytes.readableBytes
        context.touch(self)
    }

    func finish(_ stream: TunnelStream) {
        guard let id = self.id(of: stream), let tunnel else { return }
        tunnel.finish(id)
        context.touch(self)
    }

    func reset(_ stream: TunnelStream, _ code: ApplicationErrorCode) {
        guard let id = self.id(of: stream), let tunnel else { return }
        tunnel.reset(id, code: code)
        context.touch(self)
    }

    func stopSending(_ stream: TunnelStream, _ code: ApplicationErrorCode) {
        guard let id = self.id(of: stream), let tunnel else { return }
        tunnel.stopSending(id, code: code)
        context.touch(self)
    }

    func consumed(_ stream: TunnelStream, _ count: Int) {
        guard let id = self.id(of: stream), let tunnel else { return }
        tunnel.consume(id, count)
        context.touch(self)
    }

    func unsentBytes(_ stream: TunnelStream) -> Int {
        guard case .open(let id) = stream.state, let tunnel else { return 0 }
        return tunnel.unsentBytes(id)
    }

    /// Answers a user on another loop that asks for a report of sent bytes: at once when few are unsent, else when the
    /// tunnel reports the stream as writable.
    func report(_ stream: TunnelStream) {
        if unsentBytes(stream) > configuration.tunnel.unsentHighMark {
            stream.owesReport = true
        } else {
            sendReport(stream)
        }
    }

    private func sendReport(_ stream: TunnelStream) {
        stream.owesReport = false
        context.post(.sent(stream, total: stream.accepted &- unsentBytes(stream)), to: stream.userContext)
    }

    /// Delivers what a stream has held back until a handler was set.
    func resumeReading(_ stream: TunnelStream) {
        heldStreams.append(stream)
        context.touch(self)
    }

    // MARK: Events of the tunnel

    /// Reports the tunnel's events to their handlers. Handlers may call anything from within.
    func processEvents(now: NIODeadline) {
        while let stream = heldStreams.popLast() {
            deliver(stream)
        }
        while let event = tunnel?.pollEvent() {
            process(event, now: now)
        }
    }

    private func process(_ event: TunnelEvent, now: NIODeadline) {
        switch event {
        case .established:
            parametersReceived(now: now)
        case .streamOpened(let id):
            let stream = TunnelStream(session: self, userContext: context, state: .open(id), handler: nil)
            streams[id.rawValue] = stream
            handler?.session(self, opened: stream)
        case .readable(let id):
            if let stream = streams[id.rawValue] { deliver(stream) }
        case .writable(let id):
            guard let stream = streams[id.rawValue] else { return }
            if stream.isLocal {
                stream.userUnsent(unsentBytes(stream))
            } else if stream.owesReport {
                sendReport(stream)
            }
        case .reset(let id, let code):
            guard let stream = streams[id.rawValue] else { return }
            fail(stream, .reset(code: code))
        case .stopSending(let id, let code):
            guard let stream = streams[id.rawValue] else { return }
            if stream.isLocal {
                stream.userStopped(code: code)
            } else {
                context.post(.stopped(stream, code: code), to: stream.userContext)
            }
        case .streamClosed(let id):
            guard let stream = streams.removeValue(forKey: id.rawValue) else { return }
            stream.state = .closed
            if stream.isLocal {
                stream.userClosed()
            } else {
                context.post(.closed(stream), to: stream.userContext)
            }
        case .closed(let reason):
            tunnelClosed(reason, now: now)
        }
    }

    /// Delivers everything readable to the stream's user.
    private func deliver(_ stream: TunnelStream) {
        guard case .open(let id) = stream.state, let tunnel, stream.mayDeliver() else { return }
        while let bytes = tunnel.read(id) {
            if stream.isLocal {
                stream.userRead(bytes)
            } else {
                context.post(.read(stream, bytes), to: stream.userContext)
            }
        }
        guard !stream.isFinishDelivered, tunnel.isFinished(id) else { return }
        stream.isFinishDelivered = true
        if stream.isLocal {
            stream.userFinished()
        } else {
            context.post(.finished(stream), to: stream.userContext)
        }
    }

    private func fail(_ stream: TunnelStream, _ reason: StreamFailure.Reason) {
        guard case .open(let id) = stream.state else { return }
        let anyByteSent = stream.accepted > 0 && (tunnel?.sentAnyByte(id) ?? false)
        let failure = StreamFailure(reason: reason, anyByteSent: anyByteSent)
        if stream.isLocal {
            stream.userFailed(failure)
        } else {
            context.post(.failed(stream, failure), to: stream.userContext)
        }
    }

    /// Fails every stream because the session closes.
    func failAllStreams() {
        let streams = self.streams
        self.streams.removeAll()
        heldStreams.removeAll()
        for stream in streams.values {
            fail(stream, .sessionEnded)
            stream.state = .closed
        }
    }
}
