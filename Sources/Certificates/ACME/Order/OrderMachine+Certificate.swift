extension OrderMachine {
    mutating func issued(_ response: ACMEResponse, _ now: Instant) throws(ACMEMessageError) -> Action {
        let chain = try IssuedChain(response.body)
        if let failure = defect(chain) { return fail(failure) }
        guard let issuer = plan?.preferredIssuer, !chain.isIssued(by: issuer) else { return finish(chain) }
        let targets = response.links("alternate").prefix(ACMELimits.alternateChains)
        self.chain = chain
        alternates = targets.compactMap { try? DocumentReader.url($0, "certificate: Link", from: authority.directory) }
        return alternates.isEmpty ? finish(chain) : call(.alternate(0), now)
    }

    /// Another chain for the same certificate; one that is of no use is passed over, the first one is good.
    ///
    /// - Parameter response: nil: it could not be had.
    mutating func alternate(_ index: Int, _ response: ACMEResponse?, _ now: Instant) -> Action {
        if let response, let chain = try? IssuedChain(response.body), defect(chain) == nil,
            let issuer = plan?.preferredIssuer, chain.isIssued(by: issuer)
        {
            return finish(chain)
        }
        return index + 1 < alternates.count ? call(.alternate(index + 1), now) : finish(known(chain))
    }

    private func defect(_ chain: IssuedChain) -> ACMEFailure? {
        chain.defect(names: known(plan).names, key: known(record).key).map {
            ACMEFailure(.wrongCertificate, .certificate, $0)
        }
    }

    private mutating func finish(_ chain: IssuedChain) -> Action {
        end(.issued(IssuedCertificate(chain, key: known(record).key, authority: authority.directory)))
    }
}
