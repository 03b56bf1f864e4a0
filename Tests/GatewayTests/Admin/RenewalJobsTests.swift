import Gateway
import Testing

struct RenewalJobsTests {
    @Test("At most 256 jobs are kept, the latest ones, however many could not be started")
    func limit() {
        let jobs = RenewalJobs()
        for _ in 0..<2_048 {
            let (number, _) = jobs.create { nil }
            if number / 256 % 2 == 1 { jobs.remove(number) }
        }
        let kept = (1...2_048).filter { jobs.report($0) != nil }
        #expect(kept.count <= 256)
        #expect(kept.contains(1_791) && kept.last == 2_048)
    }
}
