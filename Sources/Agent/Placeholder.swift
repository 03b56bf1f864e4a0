package enum PlaceholderAgent {}
