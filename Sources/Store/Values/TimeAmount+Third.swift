import NIOCore

extension TimeAmount {
    /// A holder moves three times within its time to live.
    var third: TimeAmount { .nanoseconds(nanoseconds / 3) }

    var milliseconds: Double { Double(nanoseconds) / 1e6 }
}
