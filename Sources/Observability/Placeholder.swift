package enum PlaceholderObservability {}
