package enum PlaceholderHopProtocol {}
