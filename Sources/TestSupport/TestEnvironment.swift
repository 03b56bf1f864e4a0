import Glibc

/// Seeds of a long test: `HOPGATE_SEEDS` or the default.
package func testSeeds(default count: Int) -> Int {
    getenv("HOPGATE_SEEDS").flatMap { Int(String(cString: $0)) } ?? count
}
