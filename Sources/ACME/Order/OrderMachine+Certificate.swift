extension OrderMachine {
    mutating func handleCertificate(_ response: ACMEResponse, _ now: Instant) throws(ACMEMessageError) -> Action {
        let chain = try IssuedChain(response.body)
        if let failure = defect(chain) { return fail(failure) }
        guard let issuer = plan?.preferredIssuer, !chain.isIssued(by: issuer) else { return finish(chain) }
        let targets = response.links("alternate").prefix(ACMELimits.alternateChains)
        self.chain = chain
        alternates = targets.compactMap { try? DocumentReader.url($0, "certificate: Link", from: authority.directory) }
        return alternates.isEmpty ? finish(chain) : call(.alternate(0), now)
    }

    /// Handles an alternate chain of the same certificate. An unusable one is skipped; the first chain is valid in any
    /// case.
    ///
    /// - Parameter response: The response, or `nil` if the CA rejected the request.
    mutating func handleAlternate(_ index: Int, _ response: ACMEResponse?, _ now: Instant) -> Action {
        if let response, let chain = try? IssuedChain(response.body), defect(chain) == nil,
            let issuer = plan?.preferredIssuer, chain.isIssued(by: issuer)
        {
            return finish(chain)
        }
        return index + 1 < alternates.count ? call(.alternate(index + 1), now) : finish(required(chain))
    }

    private func defect(_ chain: IssuedChain) -> ACMEFailure? {
        chain.defect(names: required(plan).names, key: required(record).key).map {
            ACMEFailure(.wrongCertificate, .certificate, $0)
        }
    }

    private mutating func finish(_ chain: IssuedChain) -> Action {
        end(.issued(IssuedCertificate(chain, key: required(record).key)))
    }
}
