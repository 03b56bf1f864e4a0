import Certificates
package import Cluster
import Formats
import Glibc
package import NIOCore
import Store

/// The check behind `hopgate store check`: inspects the configured folder and tests what its volume can do.
///
/// It needs no running gateway, may run beside one, and creates no cluster.
package struct StoreCheck: Sendable {
    /// The timeout of the first call, which shows whether the volume hangs.
    static let firstCallTimeout = TimeAmount.seconds(10)
    /// The timeout of the inspection, and of the test and the timings of the volume. A volume that answers slowly does
    /// not reach it. Each part has its own, so that one that hangs costs no other its result.
    static let deadline = TimeAmount.seconds(60)
    /// The timeout of the leases, of the keys, and of the replicas.
    static let memberDeadline = TimeAmount.seconds(20)
    /// The time for inspecting the names in the store.
    static let inspectionTime = TimeAmount.seconds(20)
    /// The time for examining values.
    static let examinationTime = TimeAmount.seconds(15)
    /// The time for reading leases.
    static let leaseTime = TimeAmount.seconds(5)

    private let configuration: SharedStoreConfiguration
    private let heartbeatInterval: TimeAmount

    /// - Parameter heartbeatInterval: The time between the two reads that show whether a heartbeat moves.
    package init(
        _ configuration: SharedStoreConfiguration,
        heartbeatInterval: TimeAmount = ReplicaLiveness.interval
    ) {
        self.configuration = configuration
        self.heartbeatInterval = heartbeatInterval
    }

    package func run() async -> StoreCheckReport {
        guard configuration.driver == .volume else {
            var report = StoreCheckReport(path: "-")
            report.problems.append("store.driver is \"memory\": nothing is kept, so there is nothing to check")
            return report
        }
        var report = StoreCheckReport(path: configuration.path)
        do throws(StoreError) {
            let check = self
            let path = configuration.folder
            _ = try await onThread("store-check", deadline: Self.firstCallTimeout, place: path) {
                () throws(StoreError) in
                PosixFileSystem.kind(of: path, followingLinks: false)
            }
            let (found, volume) = try await onThread("store-check", deadline: Self.deadline, place: path) {
                () throws(StoreError) in check.inspect()
            }
            report = found
            guard let volume else { return report }
            let store = VolumeStore(volume: volume)
            defer { store.close() }
            let cluster = await readCluster(store, &report)
            if let cluster {
                await examineValues(store, cluster, &report)
                await examineMembers(volume, cluster, &report)
            }
            let measured = await part(path, within: Self.deadline, &report) { () throws(StoreError) in
                var measured = StoreCheckReport(path: path)
                try check.measure(volume, &measured)
                return measured
            }
            if let measured {
                report.selfTest = measured.selfTest
                report.timings = measured.timings
                report.problems += measured.problems
            }
        } catch {
            report.problems.append(error.description)
        }
        return report
    }

    /// Performs a part of the check in its own time. Returns `nil` if it failed, which is reported.
    private func part<Result: Sendable>(
        _ place: String,
        within limit: TimeAmount,
        _ report: inout StoreCheckReport,
        _ body: @escaping @Sendable () throws(StoreError) -> Result
    ) async -> Result? {
        do throws(StoreError) {
            return try await onThread("store-check", deadline: limit, place: place, body)
        } catch {
            report.problems.append(error.description)
            return nil
        }
    }

    /// Inspects the folder. Returns the volume whose cluster is to be examined, or `nil` if there is none.
    private func inspect() -> (report: StoreCheckReport, volume: Volume?) {
        var report = StoreCheckReport(path: configuration.path)
        guard let root = folder(&report) else { return (report, nil) }
        do {
            let facts = try VolumeFacts(of: root)
            report.facts = facts
            report.problems += facts.problems
            report.remarks += facts.remarks
        } catch {
            report.problems.append(StoreError(error).description)
        }
        do throws(StoreError) {
            let volume = try Volume.at(root, creating: false, mayBeLink: root == configuration.path)
            if root == configuration.path {
                // Without the store's folder the abilities of the volume are tested in the configured folder itself.
                reportUnfounded(&report)
                try measure(volume, &report)
                try? volume.files.removeFolder("tmp")
                return (report, nil)
            }
            let inspection = volume.inspect(until: .now() + Self.inspectionTime)
            report.problems += inspection.problems.map(\.description)
            do throws(StoreError) {
                try Volume.requireStartable(root, isFounding: false)
            } catch {
                // The inspection has reported the same of each folder that it reached.
                if !inspection.problems.contains(where: { $0.place == error.place }) {
                    report.problems.append(error.description)
                }
            }
            report.unusable = inspection.refused.map { UnusableFile(path: $0.place, reason: $0.reason) }
            report.remarks += inspection.remarks
            return (report, volume)
        } catch {
            report.problems.append(error.description)
            return (report, nil)
        }
    }

    /// Returns the folder to check: the store's if it exists, else the configured one. `nil` if neither can be used,
    /// which is reported.
    private func folder(_ report: inout StoreCheckReport) -> String? {
        switch PosixFileSystem.kind(of: configuration.path, followingLinks: true) {
        case nil:
            reportMissing(&report)
            return nil
        case .folder?: break
        default:
            report.problems.append("\(configuration.path): \(Volume.notFolder)")
            return nil
        }
        let inner = configuration.folder
        switch PosixFileSystem.kind(of: inner, followingLinks: false) {
        case nil where errno == ENOENT:
            do throws(StoreError) {
                try Volume.requireReadableFormat(inner)
                return configuration.path
            } catch {
                report.problems.append(error.description)
            }
        case nil:
            report.problems.append(StoreError(FileFault(.open, inner, errno)).description)
        case .folder?: return inner
        case .symbolicLink?:
            report.problems.append(StoreError(FileFault(.open, inner, ELOOP)).description)
        default:
            report.problems.append("\(inner): is not a folder; remove it")
        }
        return nil
    }

    /// Reports that the configured folder does not exist, and whether a start can create it.
    private func reportMissing(_ report: inout StoreCheckReport) {
        guard configuration.cluster == nil else { return reportUnfounded(&report) }
        do throws(StoreError) {
            try Volume.requireStartable(configuration.folder, isFounding: true)
            report.remarks.append(
                "\(configuration.path): does not exist yet; the first gateway that starts creates it"
            )
        } catch {
            report.problems.append(configuration.explained(error).description)
        }
    }

    private func measure(_ volume: Volume, _ report: inout StoreCheckReport) throws(StoreError) {
        let test = volume.selfTest()
        report.selfTest = test
        report.problems += test.problems
        if test.isUsable { report.timings = try volume.timings() }
    }

    // MARK: The cluster

    private func reportUnfounded(_ report: inout StoreCheckReport) {
        guard let cluster = configuration.cluster else {
            report.remarks.append("no cluster yet; the first gateway that starts founds one")
            return
        }
        report.problems.append(
            "\(configuration.path): there is no cluster, and store.cluster names \(cluster): mount its volume there, "
                + "or restore a backup"
        )
    }

    private func readCluster(_ store: VolumeStore, _ report: inout StoreCheckReport) async -> ClusterIdentity? {
        do throws(StoreError) {
            guard let cluster = try await store.readCluster(mounted: configuration.mountedKeys()) else {
                if let problem = try await store.missingCluster() {
                    report.problems.append(problem.description)
                } else {
                    reportUnfounded(&report)
                }
                return nil
            }
            report.cluster = cluster
            for key in cluster.unusableKeys {
                report.unusable.removeAll { $0.path == key.problem.place }
                report.problems.append(key.problem.description)
            }
            try configuration.require(cluster.id)
            return cluster
        } catch {
            report.unusable.removeAll { $0.path == error.place }
            report.problems.append(error.description)
            return nil
        }
    }

    private func examineValues(
        _ store: VolumeStore,
        _ cluster: ClusterIdentity,
        _ report: inout StoreCheckReport
    ) async {
        let certificates = CertificateSet(store) { cluster.keyring }
        let found = await ValueExamination(certificates, cluster.keyring).run(within: Self.examinationTime)
        report.credentials = found.counts[StoreLayout.credentials] ?? ValueCount()
        report.certificates = found.counts[StoreLayout.certificates] ?? ValueCount()
        report.accounts = found.counts[RenewalRecords.accounts] ?? ValueCount()
        for failure in found.failures.map(\.description) where !report.problems.contains(failure) {
            report.problems.append(failure)
        }
        if !found.isComplete { report.remarks.append("not all values could be read in the time for it") }
        // A value that cannot be used says more than its file.
        let paths = Set(found.unusable.map(\.path))
        report.unusable = report.unusable.filter { !paths.contains($0.path) } + found.unusable
        report.unusable.sort(by: UnusableFile.isWorse)
    }

    private func examineMembers(
        _ volume: Volume,
        _ cluster: ClusterIdentity,
        _ report: inout StoreCheckReport
    ) async {
        let (check, folder) = (self, configuration.folder)
        let leases = await part("\(folder)/locks", within: Self.memberDeadline, &report) { () throws(StoreError) in
            volume.leases(until: .now() + Self.leaseTime)
        }
        report.leases = leases?.found ?? []
        if leases?.isComplete == false { report.remarks.append("not all leases could be read in the time for it") }
        let strayKeys = await part("\(folder)/keys", within: Self.memberDeadline, &report) { () throws(StoreError) in
            try volume.strayKeys(cluster)
        }
        for path in strayKeys ?? [] {
            // The mode and the kind do not matter then.
            report.unusable.removeAll { $0.path == path || $0.path.hasPrefix("\(path)/") }
            report.remarks.append(
                "\(path): is not a key of this cluster; delete it with: rm -r \(shellWord(path))"
            )
        }
        if let new = cluster.rotatingTo {
            report.remarks.append(
                "the rotation to key \(new.id) is not finished; continue it with: hopgate cluster rotate-key"
            )
        }
        let replicas = await part("\(folder)/replicas", within: Self.memberDeadline, &report) { () throws(StoreError) in
            try check.replicas(volume, cluster.keyring)
        }
        report.replicas = replicas ?? []
        report.remarks += report.replicas.compactMap(\.problem)
    }

    private func replicas(_ volume: Volume, _ keyring: ClusterKeyring) throws(StoreError) -> [StoreCheckReport.Replica]
    {
        let before = try volume.heartbeats()
        if before.values.contains(where: { (try? $0.get().state) != .left }) {
            usleep(useconds_t(heartbeatInterval.nanoseconds / 1_000))
        }
        return ReplicaLiveness.compare(before, try volume.heartbeats()).map { liveness in
            let info = (try? volume.info(of: liveness.replica)).flatMap { bytes in
                try? ReplicaInfo(bytes, of: liveness.replica, with: keyring)
            }
            let state: ReplicaCounts.State? =
                switch liveness.heartbeat.map(\.state) {
                case .success(.left): .left
                case .failure where liveness.isLive: nil
                case _ where !liveness.isLive: .dead
                case .success(.starting): .starting
                case .success(.draining): .draining
                default: .active
                }
            var problem: StoreError?
            // The folder of a replica that was archived meanwhile is no problem.
            if case .failure(let error) = liveness.heartbeat, error.code != .notFound { problem = error }
            return StoreCheckReport.Replica(
                incarnation: liveness.replica,
                name: info?.name,
                state: state,
                problem: problem?.description
            )
        }
    }
}
