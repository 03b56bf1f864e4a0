package enum PlaceholderSettings {}
