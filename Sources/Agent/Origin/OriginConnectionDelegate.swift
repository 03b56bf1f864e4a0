import HopProtocol
import NIOCore

/// The user of an origin connection: it asks an ``OriginPool`` for a connection, sends one request over it and receives
/// the response. All calls come on the connection's event loop.
protocol OriginConnectionDelegate: AnyObject {
    /// Whether a connection that was asked for is still wanted.
    var wantsConnection: Bool { get }
    /// Provides the connection that was asked for. Called only while ``wantsConnection`` is `true`.
    func connected(_ connection: OriginConnection)
    /// Reports that no connection could be opened.
    func connectFailed(_ reason: String)

    /// A 1xx response head other than 101 arrived.
    func originInterimHead(_ head: ResponseHead)
    /// The final response head or a 101 arrived.
    func originHead(_ head: ResponseHead)
    /// Bytes of the response body arrived; never empty.
    func originBody(_ bytes: ByteBuffer)
    /// The response is complete.
    func originEnd(_ trailers: FieldSection?)

    /// Bytes arrived after ``OriginConnection/switchToRaw()``.
    func originRaw(_ bytes: ByteBuffer)
    /// The origin half-closed the connection after ``OriginConnection/switchToRaw()``.
    func originRawEnded()

    /// All bytes that the socket had were delivered.
    ///
    /// - Returns: Whether to read on; otherwise the delegate calls ``OriginConnection/read()`` later.
    func originReadComplete() -> Bool
    /// The socket has accepted all bytes but its low water mark.
    func originWritable()
    /// The connection failed and is closed. Nothing follows.
    func originFailed(_ error: OriginError)
}
