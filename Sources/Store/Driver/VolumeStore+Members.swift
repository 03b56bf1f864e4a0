import NIOCore
import Synchronization
import Threads

/// Another member, read by one job of the readers at a time.
final class ObservedMember: Sendable {
    let name: Incarnation
    private let send: @Sendable (MemberEvent) -> Void
    /// Locked during a delivery: events do not overlap, and none follows `gone`.
    private let delivery = Mutex(())
    private let reader: Mutex<JournalReader>
    private let state = Mutex(State())

    private struct State {
        /// The start of the read that is queued or under way.
        var reading: NIODeadline?
        /// The sequence number of the heartbeat that was delivered.
        var sequence: UInt64 = 0
        /// The changes of others that the member has acted on.
        var seen = Mark()
        /// The revision of the information that was delivered.
        var infoRevision: UInt8?
        var infoProblem: StoreError?
        var problem: StoreError?
        /// The number of listings in a row without this member.
        var misses = 0
    }

    init(volume: Volume, name: Incarnation, send: @escaping @Sendable (MemberEvent) -> Void) {
        self.name = name
        self.send = send
        reader = Mutex(JournalReader(volume: volume, replica: name))
    }

    /// Marks a read as started. Returns `false` if one is under way.
    func begin(now: NIODeadline) -> Bool {
        state.withLock { state in
            guard state.reading == nil else { return false }
            state.reading = now
            return true
        }
    }

    func end() { state.withLock { $0.reading = nil } }

    /// The changes of others that the member has acted on.
    var seen: Mark { state.withLock { $0.seen } }

    /// Records that a listing did or did not contain the member.
    func record(isListed: Bool) { state.withLock { $0.misses = isListed ? 0 : $0.misses + 1 } }

    /// Whether two listings in a row did not contain the member. It is not listed any more then.
    var isGone: Bool { state.withLock { $0.misses >= 2 } }

    func deliverGone() { delivery.withLock { _ in send(.gone(name)) } }

    /// Delivers the event that a change of the state causes, unless the member is gone.
    private func deliver(_ change: (inout State) -> MemberEvent?) {
        delivery.withLock { _ in
            if let event = state.withLock({ $0.misses < 2 ? change(&$0) : nil }) { send(event) }
        }
    }

    /// Delivers a failure if it is new, or its end.
    func report(_ problem: StoreError?) {
        deliver { state in
            defer { state.problem = problem }
            return state.problem?.code == problem?.code ? nil : .problem(name, problem)
        }
    }

    /// Whether a read has been under way for longer than the store tolerates.
    func hangs(now: NIODeadline) -> Bool {
        state.withLock { $0.reading.map { now - $0 > StoreHealth.limit } ?? false }
    }

    /// Reads the journal and delivers what is new.
    ///
    /// - Returns: The number of changes that the member has announced, or `nil` if it has no heartbeat.
    func read(_ volume: Volume) -> UInt64? {
        let (result, last) = reader.withLock { reader in
            do throws(StoreError) {
                return (Result<RowChanges?, StoreError>.success(try reader.poll()), reader.lastHeartbeat)
            } catch {
                return (.failure(error), reader.lastHeartbeat)
            }
        }
        if let last {
            let heartbeat = last.heartbeat
            deliverInfo(heartbeat.flags.infoRevision, volume)
            deliver { state in
                guard state.sequence < heartbeat.sequence else { return nil }
                (state.sequence, state.seen) = (heartbeat.sequence, heartbeat.seen)
                let status = MemberStatus(state: heartbeat.state, sessions: heartbeat.sessions, load: heartbeat.load)
                return .status(name, status, seen: heartbeat.seen, at: last.movedAt)
            }
        }
        switch result {
        case .success(let changes):
            report(nil)
            if let changes { deliver { _ in .rows(name, changes) } }
        case .failure(let error): report(error)
        }
        return last?.heartbeat.published
    }

    /// Reads the information once for each revision.
    private func deliverInfo(_ revision: UInt8, _ volume: Volume) {
        guard state.withLock({ $0.infoRevision != revision }) else { return }
        do throws(StoreError) {
            let info = try volume.info(of: name)
            deliver { state in
                (state.infoRevision, state.infoProblem) = (revision, nil)
                return .joined(name, info: .success(info))
            }
        } catch {
            deliver { state in
                defer { state.infoProblem = error }
                return state.infoProblem == error ? nil : .joined(name, info: .failure(error))
            }
        }
    }
}

/// The observation of all other members.
final class MemberReader: Sendable {
    let deliver: @Sendable (MemberEvent) -> Void
    let state = Mutex(State())

    struct State {
        var members: [Incarnation: ObservedMember] = [:]
        var isListing = false
        var hasListed = false
        /// The time until which the members are read more often.
        var hurriedUntil = NIODeadline.uptimeNanoseconds(0)
        var isHurried = false
    }

    init(deliver: @escaping @Sendable (MemberEvent) -> Void) {
        self.deliver = deliver
    }

    /// Whether every member that has a folder has acted on the changes of a mark. Dead ones are archived soon.
    func allCover(_ mark: Mark) -> Bool {
        let (hasListed, members) = state.withLock { ($0.hasListed, Array($0.members.values)) }
        return hasListed && members.allSatisfy { $0.seen.covers(mark) }
    }
}

extension VolumeStore {
    /// The time between two reads of a member from which an answer is expected.
    private static let hurriedInterval = TimeAmount.milliseconds(150)

    package func observeMembers(_ deliver: @escaping @Sendable (MemberEvent) -> Void) -> MemberObservation {
        let reader = MemberReader(deliver: deliver)
        let isFirst = shared.withLock { shared in
            guard !shared.isClosed, shared.members == nil else { return false }
            shared.members = reader
            return true
        }
        precondition(isFirst || shared.withLock { $0.isClosed }, "the members of a store are observed once")
        if isFirst { pollMembers(reader) }
        return MemberObservation(
            hurry: { [weak self] end in self?.hurry(reader, until: end) },
            end: { [weak self] in self?.shared.withLock { $0.members = nil } }
        )
    }

    /// Lists and reads all members once, and again after the interval of a watch.
    private func pollMembers(_ reader: MemberReader) {
        guard shared.withLock({ $0.members === reader }) else { return }
        listMembers(reader)
        readMembers(reader)
        timers.schedule(at: .now() + options.watchInterval) { [weak self] in self?.pollMembers(reader) }
    }

    private func hurry(_ reader: MemberReader, until end: NIODeadline) {
        let isFirst = reader.state.withLock { state in
            defer { (state.hurriedUntil, state.isHurried) = (max(state.hurriedUntil, end), true) }
            return !state.isHurried
        }
        if isFirst { readHurriedly(reader) }
    }

    private func readHurriedly(_ reader: MemberReader) {
        let isHurried = reader.state.withLock { state in
            state.isHurried = state.hurriedUntil >= .now()
            return state.isHurried
        }
        guard isHurried, shared.withLock({ $0.members === reader }) else { return }
        readMembers(reader)
        timers.schedule(at: .now() + Self.hurriedInterval) { [weak self] in self?.readHurriedly(reader) }
    }

    private func listMembers(_ reader: MemberReader) {
        let begins = reader.state.withLock { state in
            defer { state.isListing = true }
            return !state.isListing
        }
        guard begins else { return }
        let volume = volume
        let isAccepted = readers.submit { [weak self] in
            // The list of a foreign volume means nothing.
            let listed = (try? volume.replicaFolders()).flatMap { try? (volume.requireOwnVolume(), $0).1 }
            reader.state.withLock { $0.isListing = false }
            if let listed { self?.apply(listed, to: reader) }
        }
        if !isAccepted { reader.state.withLock { $0.isListing = false } }
    }

    private func apply(_ listed: [Incarnation], to reader: MemberReader) {
        let others = Set(listed).subtracting(shared.withLock { $0.ownNames })
        let (isFirst, gone) = reader.state.withLock { state in
            for name in others where state.members[name] == nil {
                state.members[name] = ObservedMember(volume: volume, name: name, send: reader.deliver)
            }
            for member in state.members.values { member.record(isListed: others.contains(member.name)) }
            let gone = state.members.values.filter(\.isGone)
            for member in gone { state.members[member.name] = nil }
            defer { state.hasListed = true }
            return (!state.hasListed, gone)
        }
        for member in gone {
            shared.withLock { $0.announced.forget(member.name) }
            member.deliverGone()
        }
        if isFirst {
            reader.deliver(.listed(others.sorted()))
            readMembers(reader)
        }
    }

    private func readMembers(_ reader: MemberReader) {
        let (volume, now) = (volume, NIODeadline.now())
        for member in reader.state.withLock({ Array($0.members.values) }) {
            guard member.begin(now: now) else {
                let place = volume.displayPath("\(Volume.replicas)/\(member.name)")
                if member.hangs(now: now) { member.report(StoreError(.stalled, place, "does not answer")) }
                continue
            }
            let isAccepted = readers.submit { [weak self] in
                let published = member.read(volume)
                member.end()
                if let published { self?.recordAnnouncement(published, of: member) }
            }
            if !isAccepted { member.end() }
        }
    }

    /// Polls the watches if a member has announced a change.
    private func recordAnnouncement(_ published: UInt64, of member: ObservedMember) {
        let watches = shared.withLock { shared -> [WatchSubscription]? in
            guard !member.isGone else { return nil }
            let before = shared.announced
            shared.announced.include(published, of: member.name)
            return shared.announced == before ? nil : shared.watches
        }
        guard let watches else { return }
        for watch in watches { poll(watch) }
        updateSeen()
    }

    /// Publishes what all watches have delivered.
    func updateSeen() {
        shared.withLock { shared in
            let seen = shared.watches.reduce(shared.announced) { $0.intersection($1.covered) }
            guard seen != shared.seen else { return }
            shared.seen = seen
            // Under the lock, so that no older mark follows a newer one.
            shared.member?.update(seen: seen)
        }
    }
}
