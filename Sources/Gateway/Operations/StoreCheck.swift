import Certificates
import Glibc
package import NIOCore
import Store

/// `hopgate store check`: looks at the configured folder and says what it is good for. Needs no running gateway, works
/// beside one, founds nothing.
package struct StoreCheck: Sendable {
    /// For the first answer: a volume that hangs is told as one.
    static let firstAnswer = TimeAmount.seconds(10)
    /// For all of it.
    static let deadline = TimeAmount.seconds(60)

    private let configuration: SharedStoreConfiguration
    private let look: TimeAmount

    /// - Parameter look: how long heartbeats are watched.
    package init(_ configuration: SharedStoreConfiguration, look: TimeAmount = ReplicaLiveness.interval) {
        self.configuration = configuration
        self.look = look
    }

    package func run() async -> StoreCheckReport {
        var report = StoreCheckReport(path: configuration.path)
        guard configuration.driver == .volume else {
            report.problems.append("store.driver is \"memory\": nothing is kept, so there is nothing to check")
            return report
        }
        do throws(StoreError) {
            let check = self
            let path = configuration.path
            _ = try await onThread("store-check", deadline: Self.firstAnswer, place: path) { () throws(StoreError) in
                PosixFileSystem.kind(of: path + "/v1", followingLinks: false)
            }
            report = try await onThread("store-check", deadline: Self.deadline, place: path) { () throws(StoreError) in
                check.blocking()
            }
        } catch {
            report.problems.append(error.description)
        }
        return report
    }

    private func blocking() -> StoreCheckReport {
        var report = StoreCheckReport(path: configuration.path)
        guard let root = folder(&report) else { return report }
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
                // Nothing of ours is here yet: what the volume can do is tried in the folder itself.
                report.remarks.append("nothing is founded here yet; the first start of a gateway founds a cluster")
                try measure(volume, &report)
                try? volume.files.removeFolder("tmp")
                return report
            }
            let inspection = volume.inspect()
            report.problems += inspection.problems
            report.remarks += inspection.remarks
            cluster(volume, &report)
            try measure(volume, &report)
        } catch {
            report.problems.append(error.description)
        }
        return report
    }

    /// The folder to look at: `v1` if there is one, else the configured one.
    private func folder(_ report: inout StoreCheckReport) -> String? {
        switch PosixFileSystem.kind(of: configuration.path, followingLinks: true) {
        case nil:
            let reason = String(cString: strerror(errno))
            report.problems.append(
                "\(configuration.path): \(reason); make the folder, or mount the volume there, for the user that the "
                    + "gateway runs as"
            )
            return nil
        case .folder?: break
        default:
            report.problems.append("\(configuration.path): is not a folder; store.path has to name one")
            return nil
        }
        let inner = configuration.path + "/v1"
        switch PosixFileSystem.kind(of: inner, followingLinks: false) {
        case nil where errno == ENOENT: return configuration.path
        case nil:
            report.problems.append("\(inner): \(String(cString: strerror(errno)))")
        case .folder?: return inner
        case .symbolicLink?:
            report.problems.append(StoreError(FileFault(.open, inner, ELOOP)).description)
        default:
            report.problems.append("\(inner): is not a folder; remove it")
        }
        return nil
    }

    private func measure(_ volume: Volume, _ report: inout StoreCheckReport) throws(StoreError) {
        let test = volume.selfTest()
        report.selfTest = test
        report.problems += test.problems
        if test.isUsable { report.timings = try volume.timings() }
    }

    // MARK: The cluster

    private func cluster(_ volume: Volume, _ report: inout StoreCheckReport) {
        do throws(StoreError) {
            let mounted = try configuration.mountedKeys()
            guard let cluster = try volume.readCluster(mounted: mounted) else {
                let credentials = try volume.keys("agents")
                guard credentials.isEmpty else {
                    report.problems.append(
                        "\(volume.files.root)/cluster.json: is missing although there are credentials; "
                            + "restore it from a backup"
                    )
                    return
                }
                report.remarks.append("nothing is founded here yet; the first start of a gateway founds a cluster")
                return
            }
            report.cluster = cluster
            report.credentials = try volume.keys("agents").count
            for path in try volume.strayKeys(cluster) {
                report.remarks.append("\(path): is no key of this cluster; it can be deleted")
            }
            if let new = cluster.rotatingTo {
                report.remarks.append(
                    "the change to key \(new.id) is not finished; go on with: hopgate cluster rotate-key"
                )
            }
            report.replicas = try replicas(volume, cluster.keyring)
        } catch {
            report.problems.append(error.description)
        }
    }

    private func replicas(_ volume: Volume, _ keyring: ClusterKeyring) throws(StoreError) -> [StoreCheckReport.Replica]
    {
        let before = try volume.heartbeats()
        if before.values.contains(where: { $0?.state != .left }) {
            usleep(useconds_t(look.nanoseconds / 1_000))
        }
        return ReplicaLiveness.compare(before, try volume.heartbeats()).map { vitals in
            let card = (try? volume.info(of: vitals.replica)).flatMap { bytes in
                try? ReplicaInfo(bytes, of: vitals.replica, with: keyring)
            }
            let state: ReplicaCounts.State =
                switch vitals.heartbeat?.state {
                case .left: .left
                case _ where !vitals.isLive: .dead
                case .starting: .starting
                case .draining: .draining
                default: .active
                }
            return StoreCheckReport.Replica(incarnation: vitals.replica, name: card?.name, state: state)
        }
    }
}
