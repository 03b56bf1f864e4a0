import Cluster
import Store
import TestSupport
import Testing

@Suite("The description of a replica")
struct ReplicaInfoTests {
    private static let key = ClusterKey(secret: (0..<32).map { UInt8($0) })
    private static let incarnation = Incarnation("01ARZ3NDEKTSV4RRFFQ69G5FAV")!
    /// Generated independently of this code.
    private static let golden = Array(
        (#"{"mac":"cc420ee3d6f5c9607e4c37299ad31302.9cf589e8cbc6fab50cd542c11fee905178b06333882b47fa769715661f4f2037","#
            + #""format":1,"keys":["k1","k2"],"name":"gateway-1","version":"0.1.0"}"#).utf8
    )

    @Test("Golden bytes of a card")
    func golden() throws {
        let info = ReplicaInfo(name: "gateway-1", version: "0.1.0", keys: ["k1", "k2"])
        #expect(info.sealed(for: Self.incarnation, with: Self.key) == Self.golden)
        let ring = ClusterKeyring([Self.key])
        #expect(try ReplicaInfo(Self.golden, of: Self.incarnation, with: ring) == info)
        // A process writes only its own card.
        let faults = formatFaults(Self.golden, keepsUnknownFields: false) { body in
            let context = "replicas/\(Self.incarnation)/card"
            return SealedDocument.seal(body, .replicaInfo, context: context, with: Self.key)
        } recode: { bytes in
            let info = try ReplicaInfo(bytes, of: Self.incarnation, with: ring)
            return info.sealed(for: Self.incarnation, with: Self.key)
        }
        #expect(faults == [])
    }

    @Test("The shown problem ends with its cause: a missing key with its arrival, an unread heartbeat with its reading")
    func problems() {
        var replica = ReplicaStatus(incarnation: Self.incarnation)
        let other = ClusterKey(secret: Array(repeating: 7, count: 32))
        replica.record(info: .success(Self.golden), with: ClusterKeyring([other]))
        let missing = replica.infoProblem
        #expect(replica.info == nil && missing != nil && replica.problem == missing)
        #expect(replica.problem(in: .active) == missing && replica.problem(in: .dead) == nil)
        replica.readProblem = StoreError(.stalled, "replicas", "does not answer")
        #expect(replica.problem?.code == .stalled && replica.problem(in: .dead)?.code == .stalled)
        replica.readProblem = nil
        #expect(replica.problem == missing)
        replica.openInfo(with: ClusterKeyring([other, Self.key]))
        #expect(replica.info?.name == "gateway-1" && replica.problem == nil)
        // A description that could not be read is not replaced by the verification of the earlier one.
        replica.record(info: .failure(StoreError(.transient, "card", "error")), with: ClusterKeyring([Self.key]))
        replica.openInfo(with: ClusterKeyring([Self.key]))
        #expect(replica.info?.name == "gateway-1" && replica.problem?.code == .transient)
    }
}
