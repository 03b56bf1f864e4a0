import Testing

/// All tests of the target, one after the other: they count the threads and descriptors of the process, and some
/// measure time.
@Suite(.serialized)
struct OutboundTests {}
