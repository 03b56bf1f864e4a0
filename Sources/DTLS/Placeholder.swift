package enum PlaceholderDTLS {}
