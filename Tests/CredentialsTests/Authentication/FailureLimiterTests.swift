import Credentials
import NIOCore
import Testing

@Suite("Limit on failed authentications, in virtual time")
struct FailureLimiterTests {
    let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

    private func key(_ address: String) throws -> AddressKey {
        AddressKey(try SocketAddress(ipAddress: address, port: 1))
    }

    @Test("Ten failures a minute are within the limit; the eleventh returns the time to wait")
    func tenAMinute() throws {
        var limiter = FailureLimiter()
        let address = try key("192.0.2.1")
        for _ in 0..<10 { #expect(limiter.fail(address, id: nil, now: start) == nil) }
        #expect(limiter.fail(address, id: nil, now: start) == .seconds(6))
        #expect(limiter.fail(address, id: nil, now: start + .seconds(2)) == .seconds(4))
        #expect(limiter.fail(address, id: nil, now: start + .seconds(6)) == nil)
        #expect(limiter.fail(address, id: nil, now: start + .seconds(6)) != nil)
        for _ in 0..<10 { #expect(limiter.fail(address, id: nil, now: start + .seconds(70)) == nil) }
        #expect(limiter.fail(address, id: nil, now: start + .seconds(70)) != nil)
    }

    @Test("Other addresses are not affected, and an id alone is never limited")
    func perAddress() throws {
        var limiter = FailureLimiter()
        for _ in 0..<50 { _ = limiter.fail(try key("192.0.2.1"), id: "aaaaaaaaaaaaaaaa", now: start) }
        for host in 2..<200 {
            #expect(limiter.fail(try key("192.0.2.\(host)"), id: "aaaaaaaaaaaaaaaa", now: start) == nil)
        }
    }

    @Test("One /64 of IPv6 counts as one address; IPv4 in IPv6 counts as IPv4")
    func addressKeys() throws {
        #expect(try key("2001:db8::1") == key("2001:db8:0:0:ffff::2"))
        #expect(try key("2001:db8::1") != key("2001:db8:0:1::1"))
        #expect(try key("::ffff:192.0.2.1") == key("192.0.2.1"))
        #expect(try key("192.0.2.1") != key("192.0.2.2"))
        #expect(try key("::1") != key("0.0.0.0"))
        let port = AddressKey(try SocketAddress(ipAddress: "192.0.2.1", port: 9))
        #expect(try port == key("192.0.2.1"))
    }

    @Test("A flood of addresses does not displace limited ones, and is forgotten afterwards")
    func bounded() throws {
        var limiter = FailureLimiter(capacity: 100)
        let limited = try key("192.0.2.1")
        for _ in 0..<11 { _ = limiter.fail(limited, id: nil, now: start) }
        for number in 0..<10_000 {
            _ = limiter.fail(try key("10.1.\(number / 256).\(number % 256)"), id: nil, now: start)
        }
        #expect(limiter.fail(limited, id: nil, now: start) != nil)
        let later = start + .seconds(61)
        let newcomer = try key("10.9.9.9")
        for _ in 0..<10 { #expect(limiter.fail(newcomer, id: nil, now: later) == nil) }
        #expect(limiter.fail(newcomer, id: nil, now: later) != nil)
    }

    @Test("A correct secret is accepted regardless of failures from the same address or with the same id")
    func correctSecretIsNotLimited() async throws {
        let store = try TestStore()
        let good = try await store.editor.create(name: "good").token
        let cache = store.cache()
        try await cache.load()
        let shared = try SocketAddress(ipAddress: "192.0.2.1", port: 1)
        var limited = 0
        for _ in 0..<100 {
            if cache.verify(id: good.id, secret: "wrong", from: shared, now: start).wait != nil { limited += 1 }
            #expect(cache.verify(id: good.id, secret: good.secret, from: shared, now: start).isGranted)
        }
        #expect(limited == 90)
        #expect(cache.statistics.limited == 90)
        #expect(cache.statistics.refused == [.wrongSecret: 100])
        #expect(cache.statistics.granted == 100)
    }
}
