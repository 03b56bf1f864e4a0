/// The application protocol that tunnels speak inside DTLS.
package enum TunnelProtocol {
    /// The ALPN name of the current version (RFC 7301); both ends offer it, and it names the version of everything that
    /// travels in the tunnel.
    package static let alpn = "hop/1"
    /// The ALPN name of the tunnels between replicas, in which each end opens streams.
    package static let meshALPN = "hop-mesh/1"
}
