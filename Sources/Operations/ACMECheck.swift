package import ACME
package import Certificates
import Glibc
import NIOCore
import Observability
import Outbound
package import Store

/// The check behind `hopgate acme check`: finds what would prevent a CA from issuing a certificate for a name, without
/// placing an order.
///
/// It connects from this machine, a CA connects from the internet: a port that is open here may be closed there.
package struct ACMECheck: Sendable {
    /// The result of one of the checks.
    package struct Finding: Equatable, Sendable {
        package enum Verdict: String, Sendable {
            case good = "ok"
            /// The finding may be intended, or cannot be verified from this machine.
            case unclear = "??"
            case bad = "NO"
        }

        package let subject: String
        package let verdict: Verdict
        /// The finding, and its remedy if it is bad.
        package let message: String

        init(_ verdict: Verdict, _ subject: String, _ message: String) {
            self.verdict = verdict
            self.subject = subject
            self.message = message
        }
    }

    /// The ports to which the CA connects. Public CAs use 80 and 443.
    package struct Ports: Sendable {
        package var http = 80
        package var https = 443

        package init() {}
    }

    /// The timeout of a request or a connection to the gateway, in seconds.
    static let timeout = 5
    /// The timeout of the exchange with a CA.
    static let authorityTimeout = TimeAmount.seconds(12)

    let name: CertificateName
    let settings: RenewalSettings
    let dns: DNSHookSettings?
    let allowsOnDemand: @Sendable (String) -> Bool
    let store: any Store
    let signing: ClusterKey
    let ports: Ports
    let version: String

    /// - Parameters:
    ///   - allowsOnDemand: Whether a certificate for this DNS name may be ordered on demand.
    ///   - signing: The key that seals challenges.
    package init(
        _ name: CertificateName,
        _ settings: RenewalSettings,
        dns: DNSHookSettings?,
        allowsOnDemand: @escaping @Sendable (String) -> Bool,
        store: any Store,
        signing: ClusterKey,
        ports: Ports = Ports(),
        version: String
    ) {
        self.name = name
        self.settings = settings
        self.dns = dns
        self.allowsOnDemand = allowsOnDemand
        self.store = store
        self.signing = signing
        self.ports = ports
        self.version = version
    }

    /// One of several ways to the same end, such as a kind of challenge, with its findings.
    package typealias Way = (name: String, findings: [Finding])

    /// Runs all checks, in the order in which an order depends on them.
    package func run() async -> [Finding] {
        var findings = [configuration]
        let isWildcard = name.description.hasPrefix("*.")
        // The kinds that an order uses for this name.
        let kinds = settings.challenges.filter { kind in
            switch kind {
            case .dns01: if case .address = name { false } else { true }
            case .http01, .tlsALPN01: !isWildcard
            }
        }
        var ways: [Way] = []
        if kinds.contains(where: { $0 != .dns01 }) {
            let (addresses, dns) = await resolve()
            if addresses.isEmpty {
                ways += dns.map { [("http-01", [$0])] } ?? []
            } else {
                findings += [dns].compactMap(\.self)
            }
            for kind in kinds where kind != .dns01 && !addresses.isEmpty {
                ways.append((kind.rawValue, await challenge(kind, at: addresses)))
            }
        }
        if kinds.contains(.dns01) { ways.append(("dns-01", [hook])) }
        if kinds.isEmpty { findings.append(unprovable) }
        var authorities: [Way] = []
        for configured in settings.authorities {
            authorities.append((configured.authority.directory.text, [await check(configured)]))
        }
        // After a failure the gateway tries the next kind, and the next CA: one that works is enough.
        return findings + Self.needingOne(of: ways) + Self.needingOne(of: authorities)
    }

    /// Returns the findings of all ways. Bad ones are relaxed if another way works.
    package static func needingOne(of ways: [Way]) -> [Finding] {
        let best =
            ways.first { $0.findings.allSatisfy { $0.verdict == .good } }
            ?? ways.first { $0.findings.allSatisfy { $0.verdict != .bad } }
        return ways.flatMap { way in
            way.findings.map { finding in
                guard let best, best.name != way.name else { return finding }
                return finding.excused(by: best.name)
            }
        }
    }

    // MARK: Configuration

    private var configuration: Finding {
        let subject = "configuration"
        if let item = settings.certificates.first(where: { $0.contains(name) }) {
            let others = item.count > 1 ? ", in the certificate that is called \(item[0])" : ""
            return Finding(.good, subject, "\(name) is in acme.names\(others)")
        }
        if case .dns(let host) = name, allowsOnDemand(host) {
            return Finding(
                .good,
                subject,
                "\(name) is a host on demand: its certificate is ordered when an agent offers the host"
            )
        }
        return Finding(
            .bad,
            subject,
            "\(name) is neither in acme.names nor in acme.on_demand.hosts; nothing is ordered for it"
        )
    }

    private var hook: Finding {
        let subject = "dns-01"
        guard let dns else {
            let message = "\(name) needs dns-01, and there is no hook; set acme.dns.hook or acme.dns.exec"
            return Finding(.bad, subject, message)
        }
        guard case .program(let path) = dns.hook, access(path, X_OK) != 0 else {
            let message = "the hook is configured; its effect on the zone shows only with an order"
            return Finding(.unclear, subject, message)
        }
        let message = "acme.dns.exec: \(path) cannot be run: \(String(cString: strerror(errno)))"
        return Finding(.bad, subject, message)
    }

    private var unprovable: Finding {
        let message =
            "no kind of challenge in acme.challenge can be used for \(name): wildcards need dns-01, addresses "
            + "cannot have it"
        return Finding(.bad, "challenge", message)
    }

    // MARK: DNS

    /// Resolves the name.
    ///
    /// - Returns: The addresses, and the finding about them; `nil` for a name that is an address.
    private func resolve() async -> (addresses: [String], finding: Finding?) {
        if case .address(let text) = name { return ([text], nil) }
        let subject = "DNS"
        let host = name.description
        let (addresses, problem): ([String], String)
        do throws(StoreError) {
            (addresses, problem) = try await onThread("resolver", deadline: .seconds(10), place: host) {
                Self.addresses(of: host)
            }
        } catch {
            let isLate = error.code == .stalled
            (addresses, problem) = ([], isLate ? "the DNS servers did not answer within 10 s" : error.reason)
        }
        guard addresses.isEmpty else {
            let message = "\(name) resolves to \(addresses.joined(separator: ", "))"
            return (addresses, Finding(.good, subject, message))
        }
        let remedy = "create an A or AAAA record that points to the gateway; verify it with: dig \(name)"
        let message = "\(name) has no address (\(problem)); \(remedy)"
        return ([], Finding(.bad, subject, message))
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
        return (found, "the lookup returned no address")
    }

    // MARK: The CA

    private func check(_ configured: RenewalSettings.Authority) async -> Finding {
        let authority = configured.authority
        let outbound = OutboundClient(userAgent: "hopgate/\(version)")
        let client = ACMEClient(
            configured,
            transport: OutboundTransport(outbound),
            records: RenewalRecords(store)
        )
        let outcome: Result<AccountRecord, ACMEFailure>
        let subject = "CA"
        do throws(StoreError) {
            outcome = try await client.register(within: Self.authorityTimeout, registersAgain: true)
        } catch {
            await outbound.close()
            return Finding(.bad, subject, "\(error)")
        }
        await outbound.close()
        switch outcome {
        case .success(let account):
            if let profile = settings.profile, let profiles = client.directory?.profiles, profiles[profile] == nil {
                let offered = profiles.keys.sorted().joined(separator: ", ")
                let message = "\(authority.directory) has no profile \"\(profile)\"; it offers: \(offered)"
                return Finding(.bad, subject, message)
            }
            let message = "\(authority.directory) answers; the account is \(account.url?.text ?? "not registered")"
            return Finding(.good, subject, message)
        case .failure(let failure):
            let (message, url) = ("\(failure)", authority.directory.text)
            return Finding(.bad, subject, message.contains(url) ? message : "\(url): \(message)")
        }
    }
}
