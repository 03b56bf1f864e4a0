package import Certificates
import Glibc
import NIOCore
import Observability
import Outbound
package import Store

/// `hopgate acme check`: what would keep a CA from issuing for a name, without an order. It looks from this machine, and
/// a CA looks from the internet: what is good here may still be closed there.
package struct ACMECheck: Sendable {
    /// One thing that was looked at.
    package struct Finding: Equatable, Sendable {
        package enum Verdict: String, Sendable {
            case good = "ok"
            /// It may be on purpose, or cannot be seen from here.
            case unclear = "??"
            case bad = "NO"
        }

        package let subject: String
        package let verdict: Verdict
        /// What was found, and how to mend it.
        package let words: String
    }

    /// Where CAs come to. Others are for CAs of one's own.
    package struct Ports: Sendable {
        package var http = 80
        package var https = 443

        package init() {}
    }

    /// For a request, or a connection.
    static let patience = 5
    /// For a CA.
    static let authorityPatience = TimeAmount.seconds(12)

    let name: CertificateName
    let acme: ACMEConfiguration
    let store: any Store
    let ports: Ports
    let version: String

    package init(
        _ name: CertificateName,
        _ acme: ACMEConfiguration,
        store: any Store,
        ports: Ports = Ports(),
        version: String
    ) {
        self.name = name
        self.acme = acme
        self.store = store
        self.ports = ports
        self.version = version
    }

    /// Everything, in the order in which it has to be good.
    package func run() async -> [Finding] {
        var findings = [configuration]
        let isWildcard = name.description.hasPrefix("*.")
        if isWildcard || !acme.challenges.contains(where: { $0 != .dns01 }) {
            findings.append(hook)
        } else {
            let addresses: [String]
            (addresses, findings) = resolve(findings)
            if !addresses.isEmpty { findings += await challenges(at: addresses) }
        }
        for authority in acme.authorities { findings.append(await ask(authority)) }
        return findings
    }

    // MARK: What is configured

    private var configuration: Finding {
        let subject = "configuration"
        if let item = acme.names.first(where: { $0.contains(name) }) {
            let others = item.count > 1 ? ", in the certificate that is called \(item[0])" : ""
            return Finding(subject: subject, verdict: .good, words: "\(name) is in acme.names\(others)")
        }
        if case .dns(let host) = name, acme.onDemand.allows(.exact(host)) {
            return Finding(
                subject: subject,
                verdict: .good,
                words: "\(name) is a host on demand: it is ordered when an agent offers it"
            )
        }
        return Finding(
            subject: subject,
            verdict: .bad,
            words: "\(name) is neither in acme.names nor in acme.on_demand.hosts; nothing is ordered for it"
        )
    }

    private var hook: Finding {
        let subject = "dns-01"
        guard let dns = acme.dns else {
            let words = "\(name) needs dns-01, and there is no hook; set acme.dns.hook or acme.dns.exec"
            return Finding(subject: subject, verdict: .bad, words: words)
        }
        guard case .program(let path) = dns.hook, access(path, X_OK) != 0 else {
            let words = "the hook is configured; what it does to the zone is seen when something is ordered"
            return Finding(subject: subject, verdict: .unclear, words: words)
        }
        let words = "acme.dns.exec: \(path) cannot be run: \(String(cString: strerror(errno)))"
        return Finding(subject: subject, verdict: .bad, words: words)
    }

    // MARK: The name

    private func resolve(_ findings: [Finding]) -> (addresses: [String], findings: [Finding]) {
        if case .address(let text) = name { return ([text], findings) }
        let subject = "DNS"
        let (addresses, problem) = Self.addresses(of: name.description)
        guard addresses.isEmpty else {
            let words = "\(name) leads to \(addresses.joined(separator: ", "))"
            return (addresses, findings + [Finding(subject: subject, verdict: .good, words: words)])
        }
        let remedy = "make an A or AAAA record that leads to the gateway; look at it with: dig \(name)"
        let words = "\(name) has no address (\(problem)); \(remedy)"
        return ([], findings + [Finding(subject: subject, verdict: .bad, words: words)])
    }

    private static func addresses(of host: String) -> (addresses: [String], problem: String) {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &list)
        guard code == 0 else { return ([], String(cString: gai_strerror(code))) }
        defer { freeaddrinfo(list) }
        var found: [String] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ai_next
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let length = socklen_t(text.count)
            guard getnameinfo(entry.ai_addr, entry.ai_addrlen, &text, length, nil, 0, NI_NUMERICHOST) == 0 else {
                continue
            }
            let address = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if !found.contains(address) { found.append(address) }
        }
        return (found, "it has a name and no address")
    }

    // MARK: The CA

    private func ask(_ authority: ACMEConfiguration.Authority) async -> Finding {
        let client = OutboundClient(userAgent: "hopgate/\(version)")
        let inquiry = AccountRegistration(
            acme.authority(authority),
            trust: authority.caBundle.map { .file(path: $0) } ?? .system,
            transport: OutboundTransport(client),
            records: RenewalRecords(store)
        )
        let outcome = await inquiry.run(patience: Self.authorityPatience, registersAgain: true)
        await client.close()
        let subject = "CA"
        switch outcome {
        case .ready(let directory, let account):
            if let profile = acme.profile, directory.profiles[profile] == nil {
                let offered = directory.profiles.keys.sorted().joined(separator: ", ")
                let words = "\(authority.directory) has no profile \"\(profile)\"; it offers: \(offered)"
                return Finding(subject: subject, verdict: .bad, words: words)
            }
            let words = "\(authority.directory) answers; the account is \(account.url?.text ?? "not registered")"
            return Finding(subject: subject, verdict: .good, words: words)
        case .failed(let failure):
            return Finding(subject: subject, verdict: .bad, words: "\(authority.directory): \(failure)")
        case .trouble(let trouble): return Finding(subject: subject, verdict: .bad, words: "\(trouble)")
        }
    }
}
