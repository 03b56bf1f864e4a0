import Glibc

/// The number of seeds of a test: `HOPGATE_SEEDS`, or the usual number, or ten times as many if `HOPGATE_LONG` is set.
package func testSeeds(default count: Int) -> Int {
    if let seeds = getenv("HOPGATE_SEEDS").flatMap({ Int(String(cString: $0)) }) { return seeds }
    return getenv("HOPGATE_LONG") == nil ? count : 10 * count
}
