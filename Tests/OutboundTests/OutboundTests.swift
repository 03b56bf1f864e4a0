import Testing

/// All tests of the target. They run serially, because they count the threads and descriptors of the process and some
/// measure time.
@Suite(.serialized)
struct OutboundTests {}
