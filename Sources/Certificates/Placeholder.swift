package enum PlaceholderCertificates {}
