package enum PlaceholderTunnel {}
