package import NIOCore
package import Store

/// How replicas tell each other that something in the store is new, and learn that the others have acted on it.
///
/// Whoever publishes calls ``settle(within:)``. Whoever follows asks ``heard()``, then looks at the store, then says
/// ``acted(on:)``; in this order, so that what it says is true.
package protocol Announcements: Sendable {
    /// Tells every live replica to look at the store, and returns when all have, or at the limit.
    ///
    /// - Returns: the live replicas that have not yet.
    func settle(within limit: TimeAmount) async -> [Incarnation]

    /// What the live replicas have published, as far as this one has heard.
    func heard() -> [Heartbeat.Seen]

    /// This replica has looked at the store after it heard of these, and acted on what it found.
    func acted(on heard: [Heartbeat.Seen])

    /// Called, on any thread, when ``heard()`` says something else than before. For one listener.
    func onNews(_ body: @escaping @Sendable () -> Void)

    /// Whether news are urgent now.
    func hurry(_ isHurried: Bool)
}
