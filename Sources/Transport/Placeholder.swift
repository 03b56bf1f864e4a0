package enum PlaceholderTransport {}
