import Foundation
import Store
import Testing

@Suite("Prefixes of values")
struct StoreLayoutTests {
    @Test("Every key that the sources name is below a prefix of the layout, or the name of a lease")
    func isComplete() throws {
        let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../../../Sources").standardizedFileURL
        let prefixes = Set(StoreLayout.all)
        let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
        var found: Set<StoreKey> = []
        for case let file as URL in files where file.pathExtension == "swift" {
            for match in try String(contentsOf: file, encoding: .utf8).matches(of: /(\w+): StoreKey = "([^"]+)"/)
            where match.1 != "lease" {
                let key = try StoreKey(String(match.2))
                if key == .clusterDocument { continue }
                let prefix = prefixes.contains(key) ? key : key.parent
                #expect(prefix.map(prefixes.contains) == true, "\(file.lastPathComponent) names \(key)")
                if let prefix { found.insert(prefix) }
            }
        }
        #expect(found == prefixes, "nothing is written below a prefix of the layout")
    }
}
