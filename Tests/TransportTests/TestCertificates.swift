/// A root, a leaf of it for localhost, 127.0.0.1 and ::1, and a root that nothing comes from. Valid for a century.
enum TestCertificates {
    static let root = Array(Self.rootPEM.utf8)
    static let leaf = Array(Self.leafPEM.utf8)
    static let leafKey = Array(Self.leafKeyPEM.utf8)
    static let strangerRoot = Array(Self.strangerRootPEM.utf8)

    private static let rootPEM = """
        -----BEGIN CERTIFICATE-----
        MIIBbTCCARSgAwIBAgIUHrvVCKcbBU0zYXLMA7+4nuSRxFcwCgYIKoZIzj0EAwIw
        FDESMBAGA1UEAwwJVGVzdCByb290MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAx
        MDAwMDAwWjAUMRIwEAYDVQQDDAlUZXN0IHJvb3QwWTATBgcqhkjOPQIBBggqhkjO
        PQMBBwNCAASINscIXXItPCltH53zgO+SPtOLe8QDFrgSBockLpiWIAujzZe2HroV
        ZFNoNOWMGe82SiMJsud3Ckhq+xPM4AB/o0IwQDAPBgNVHRMBAf8EBTADAQH/MA4G
        A1UdDwEB/wQEAwIBBjAdBgNVHQ4EFgQUm2DJ9FHaoJ5WdnIgOQuRddVFYD4wCgYI
        KoZIzj0EAwIDRwAwRAIgDdAyJbJ2ugQERiI4hNN64fo+QPQQOtlRE0sggpjBhHAC
        IFy6DSwJ6RSv6E7Go0kd59A7rcV5A8ENWRTFNH1TFaYC
        -----END CERTIFICATE-----

        """

    private static let leafPEM = """
        -----BEGIN CERTIFICATE-----
        MIIBnjCCAUOgAwIBAgIUeVjeWUjzQDrUOgJKHaU32B2EFuIwCgYIKoZIzj0EAwIw
        FDESMBAGA1UEAwwJVGVzdCByb290MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAx
        MDAwMDAwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
        PQMBBwNCAAQpLW5q/6YIbSb4v3oe7qTv3b2XsqRn4qdGHhS6v9QfEwbGicrelpkb
        HKuSKOcpUmUPWg4ivCN4oulw1s47mQWDo3EwbzAsBgNVHREEJTAjgglsb2NhbGhv
        c3SHBH8AAAGHEAAAAAAAAAAAAAAAAAAAAAEwCQYDVR0TBAIwADATBgNVHSUEDDAK
        BggrBgEFBQcDATAfBgNVHSMEGDAWgBSbYMn0UdqgnlZ2ciA5C5F11UVgPjAKBggq
        hkjOPQQDAgNJADBGAiEAgyJLzqM3Psx5E4kAKSZ2W0CHyYR02gc+KQZ/4pFtgaIC
        IQCXHYy224yawFLUsDzknDW+VQgmHXXXNfXvU4/LEbmQ8g==
        -----END CERTIFICATE-----

        """

    private static let leafKeyPEM = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQB4qJDXxajd2BZbN
        6PzIu2MoyHSvMdLxYlKkhVwo/OahRANCAAQpLW5q/6YIbSb4v3oe7qTv3b2XsqRn
        4qdGHhS6v9QfEwbGicrelpkbHKuSKOcpUmUPWg4ivCN4oulw1s47mQWD
        -----END PRIVATE KEY-----

        """

    private static let strangerRootPEM = """
        -----BEGIN CERTIFICATE-----
        MIIBdTCCARygAwIBAgIUVWmZq0bDx0uUSSvDUQ5CH5o4TI0wCgYIKoZIzj0EAwIw
        GDEWMBQGA1UEAwwNU3RyYW5nZXIgcm9vdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIw
        MDEwMTAwMDAwMFowGDEWMBQGA1UEAwwNU3RyYW5nZXIgcm9vdDBZMBMGByqGSM49
        AgEGCCqGSM49AwEHA0IABO2RH3uWxwtxk6qldnL+Rk6XNsDXbqftLkE2T8uGeCLW
        5j/4z3LX+scSCSuR97TxjPheQv0V9nNvplC28eMqPMWjQjBAMA8GA1UdEwEB/wQF
        MAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBQWSi+q0sNk5f9LI+qUIyCB
        476DyjAKBggqhkjOPQQDAgNHADBEAiAaB8dtrO4haAmLnRXycd2vc+vGAAXFnpFy
        DD6/M3WeeAIgJC6pzzXm23CKiGdNKEJoABFDDHJCX9OYZWNBmre7qx4=
        -----END CERTIFICATE-----

        """

}
