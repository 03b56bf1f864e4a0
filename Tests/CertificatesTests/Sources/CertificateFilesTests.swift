import ACME
import Certificates
import Crypto
import Files
import Foundation
import TestSupport
import Testing

@Suite("Certificates from files")
struct CertificateFilesTests {
    let scratch = ScratchFolder()

    private func load(_ chain: String, _ key: String) throws -> ServerCertificate {
        try scratch.files(chain: chain, key: key).load()
    }

    private func failure(_ chain: String, _ key: String) -> CertificatesError? {
        #expect(throws: CertificatesError.self) { try load(chain, key) }
    }

    @Test("A chain and its key load; text around the blocks is left out")
    func loads() throws {
        let test = try TestCertificate(["one.test", "*.two.test"])
        let other = try TestCertificate(["issuer.test"])
        let loaded = try load("subject=one\n" + test.chain + "issuer\n" + other.chain, test.key)
        #expect(loaded.names == [.dns("one.test"), .dns("*.two.test")])
        #expect(String(decoding: loaded.chainPEM, as: UTF8.self) == test.chain + other.chain)
        #expect(String(decoding: loaded.keyPEM, as: UTF8.self).hasPrefix("-----BEGIN PRIVATE KEY-----"))
    }

    @Test("Keys that openssl writes are taken", arguments: ["EC", "RSA"])
    func opensslKeys(_ kind: String) throws {
        let key = scratch.file("openssl-key.pem")
        let chain = scratch.file("openssl.pem")
        let made =
            kind == "EC"
            ? try ExternalProgram.runBlocking(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-out", key])
            : try ExternalProgram.runBlocking(["openssl", "genrsa", "-traditional", "-out", key, "2048"])
        try #require(made.status == 0, "\(made.output)")
        let request = ["req", "-x509", "-new", "-key", key, "-out", chain, "-days", "2", "-subj", "/CN=x"]
        let signed = try ExternalProgram.runBlocking(
            ["openssl"] + request + ["-addext", "subjectAltName=DNS:Made.Test,IP:10.0.0.1"]
        )
        try #require(signed.status == 0, "\(signed.output)")
        let loaded = try CertificateFiles(certificate: chain, key: key).load()
        #expect(loaded.names == [.dns("made.test"), .address("10.0.0.1")])
        #expect(!String(decoding: loaded.keyPEM, as: UTF8.self).contains("PARAMETERS"))
    }

    @Test("A missing file is named")
    func missing() throws {
        let test = try TestCertificate(["one.test"])
        let files = CertificateFiles(certificate: scratch.write("chain.pem", test.chain), key: scratch.file("none.pem"))
        let error = #expect(throws: CertificatesError.self) { try files.load() }
        #expect(error?.code == .file(.notFound))
        #expect(error?.path == scratch.file("none.pem"))
    }

    @Test("A key of another certificate is refused, naming both files")
    func mismatch() throws {
        let error = failure(try TestCertificate(["a.test"]).chain, try TestCertificate(["a.test"]).key)
        #expect(error?.code == .keyMismatch)
        #expect(error?.path == scratch.file("key.pem"))
        #expect(error?.reason.contains(scratch.file("chain.pem")) == true)
    }

    @Test("A chain in the wrong order is distinguished from a foreign key")
    func wrongOrder() throws {
        let leaf = try TestCertificate(["a.test"])
        let error = failure(try TestCertificate(["ca.test"]).chain + leaf.chain, leaf.key)
        #expect(error?.reason.contains("certificate 2") == true)
    }

    @Test("A file that is not PEM is refused with a reason that names the file")
    func malformed() throws {
        let test = try TestCertificate(["a.test"])
        let der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for chain in [
            "", "hello", test.key, der, "-----BEGIN CERTIFICATE-----\n", "\u{0}", String(test.chain.dropLast(60)),
        ] {
            let error = failure(chain, test.key)
            #expect(error?.code == .malformed, "\(chain)")
            #expect(error?.path == scratch.file("chain.pem"))
        }
        for key in ["", "hello", test.chain, test.key + test.key] {
            let error = failure(test.chain, key)
            #expect(error?.code == .malformed, "\(key)")
            #expect(error?.path == scratch.file("key.pem"))
        }
    }

    /// Runs a command line in the scratch folder.
    private func shell(_ command: String) throws {
        let done = try ExternalProgram.runBlocking(["sh", "-c", "cd '\(scratch.path)' && \(command)"])
        try #require(done.status == 0, "\(command): \(done.output)")
    }

    /// Expects that a file is refused by the name of its format, and runs the command that the error names.
    private func convert(_ files: CertificateFiles, _ file: String, _ name: String) throws {
        let error = #expect(throws: CertificatesError.self) { try files.load() }
        #expect(error?.code == .unsupported && error?.path == scratch.file(file))
        let reason = try #require(error?.reason)
        #expect(reason.contains(name))
        let command = try #require(
            reason.firstRange(of: "openssl ").map { String(reason[$0.lowerBound...].prefix { $0 != "(" }) },
            "\(reason)"
        )
        let asksForPassword = command.contains("pkey") || command.contains("pkcs12")
        try shell(command + (asksForPassword ? " -passin pass:secret" : ""))
    }

    @Test(
        "A key in another format is refused with the command that converts it",
        arguments: [
            ("pkcs8 -topk8 -in key.pem -passout pass:secret", "encrypted"),
            ("rsa -aes128 -traditional -in key.pem -passout pass:secret", "encrypted"),
            ("pkey -outform DER -in key.pem", "in DER"),
            ("rsa -traditional -outform DER -in key.pem", "in DER"),
        ]
    )
    func foreignKey(_ made: String, _ name: String) throws {
        try shell("openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=x")
        try shell("openssl \(made) -out foreign.key && mv key.pem original.pem")
        let chain = scratch.file("cert.pem")
        try convert(CertificateFiles(certificate: chain, key: scratch.file("foreign.key")), "foreign.key", name)
        _ = try CertificateFiles(certificate: chain, key: scratch.file("key.pem")).load()
    }

    @Test(
        "A certificate in another format is refused with the command that converts it",
        arguments: [
            ("x509 -trustout -in cert.pem", "cert.pem", "OpenSSL"),
            ("x509 -outform DER -in cert.pem", "cert.pem", "DER"),
            (
                "pkcs12 -export -in cert.pem -inkey key.pem -passout pass:secret", "both.pem",
                #"(add -legacy if openssl reports "unsupported"), then name both.pem as certificate and as key"#
            ),
            ("crl2pkcs7 -nocrl -certfile cert.pem", "chain.pem", "PKCS #7"),
            ("crl2pkcs7 -nocrl -outform DER -certfile cert.pem", "chain.pem", "PKCS #7"),
        ]
    )
    func foreignCertificate(_ made: String, _ converted: String, _ name: String) throws {
        try shell("openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=x")
        try shell("openssl \(made) -out foreign && mv cert.pem original.pem")
        let key = scratch.file("key.pem")
        try convert(CertificateFiles(certificate: scratch.file("foreign"), key: key), "foreign", name)
        let chain = scratch.file(converted)
        _ = try CertificateFiles(certificate: chain, key: converted == "both.pem" ? chain : key).load()
    }

    @Test(
        "A file without a usable key names its content",
        arguments: [
            ("ecparam -out foreign.key -name prime256v1", "parameters"),
            ("dsaparam -out foreign.key 1024", "parameters"),
            ("genpkey -out foreign.key -algorithm ed448", "Ed25519"),
            ("genpkey -out foreign.key -algorithm x25519", "Ed25519"),
            ("ecparam -out foreign.key -name secp256k1 -genkey -noout", "P-256"),
            ("ecparam -out foreign.key -name prime256v1 -genkey -noout -param_enc explicit", "cannot be used"),
            (
                "genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:1024 -out dsa.pem && "
                    + "openssl genpkey -paramfile dsa.pem -out foreign.key", "cannot be used"
            ),
            ("genrsa -out foreign.key 1024", "1024 bits"),
            ("genrsa -traditional -out foreign.key 1024", "1024 bits"),
            ("genrsa -out other.key 2048 && openssl pkey -in other.key -pubout -out foreign.key", "public key"),
        ]
    )
    func unusableKey(_ made: String, _ name: String) throws {
        try shell("openssl \(made)")
        let key = String(decoding: scratch.read("foreign.key"), as: UTF8.self)
        let error = failure(try TestCertificate(["a.test"]).chain, key)
        #expect(error?.code == .unsupported)
        #expect(error?.reason.contains(name) == true, "\(String(describing: error))")
    }

    @Test("Names of other formats are in the error", arguments: ["OPENSSH PRIVATE KEY", "DSA PRIVATE KEY"])
    func formatNames(_ label: String) throws {
        let error = failure(
            try TestCertificate(["a.test"]).chain,
            "-----BEGIN \(label)-----\nAAAA\n-----END \(label)-----\n"
        )
        #expect(error?.code == .unsupported)
        #expect(error?.reason.contains(label.hasPrefix("DSA") ? "DSA" : "ssh-keygen") == true)
    }

    @Test("A certificate with a key that TLS libraries do not take is refused with the kinds that they take")
    func unusableCertificate() throws {
        try shell("openssl req -x509 -newkey ed448 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=x")
        let error = #expect(throws: CertificatesError.self) {
            try CertificateFiles(certificate: scratch.file("cert.pem"), key: scratch.file("key.pem")).load()
        }
        #expect(error?.code == .unsupported && error?.reason.contains("Ed25519") == true)
    }

    @Test(
        "A weak key or signature in the chain is refused with its kind and what is needed",
        arguments: [
            ("rsa:1024", "sha256", "leaf.pem", "certificate 1 is an RSA key of 1024 bits", "genpkey"),
            ("rsa:512", "sha256", "leaf.pem", "certificate 1 is an RSA key of 512 bits", "2048"),
            ("rsa:2048", "sha1", "leaf.pem", "certificate 1 is signed with SHA-1", "SHA-256"),
            ("rsa:2048", "sha1", "self.pem", "certificate 1 is signed with SHA-1", "SHA-256"),
            ("rsa:2048", "md5", "leaf.pem", "signature of certificate 1", "SHA-256"),
            ("rsa:2048", "sha256", "leaf.pem small.pem", "certificate 2 is an RSA key of 1024 bits", "stronger keys"),
            ("ec -pkeyopt ec_paramgen_curve:P-224", "sha256", "leaf.pem", "certificate 1", "P-256"),
        ]
    )
    func weak(_ key: String, _ digest: String, _ files: String, _ what: String, _ needed: String) throws {
        try shell("openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca")
        try shell("openssl req -x509 -newkey rsa:1024 -nodes -keyout small.key -out small.pem -days 2 -subj /CN=small")
        try shell("openssl req -new -newkey \(key) -nodes -keyout key.pem -out leaf.csr -subj /CN=x")
        let signing = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -\(digest)"
        try shell("openssl x509 -req -in leaf.csr \(signing) -out leaf.pem")
        try shell("openssl req -x509 -key key.pem -\(digest) -out self.pem -days 2 -subj /CN=x")
        try shell("cat \(files) >chain.pem")
        let error = #expect(throws: CertificatesError.self) {
            try CertificateFiles(certificate: scratch.file("chain.pem"), key: scratch.file("key.pem")).load()
        }
        #expect(error?.code == .unsupported)
        let reason = error?.reason ?? ""
        #expect(reason.contains(what) && reason.contains(needed), "\(reason)")
    }

    @Test("Bytes that are not text, a folder, a pipe and a huge file are refused without blocking")
    func oddFiles() throws {
        let test = try TestCertificate(["a.test"])
        let key = scratch.write("key.pem", test.key)
        scratch.write("binary.pem", [0xFF, 0xFE, 0x00])
        scratch.write("huge.pem", [UInt8](repeating: 0x20, count: 2 << 20))
        try FileManager.default.createDirectory(atPath: scratch.file("folder.pem"), withIntermediateDirectories: true)
        #expect(mkfifo(scratch.file("pipe.pem"), 0o600) == 0)
        func code(_ name: String) -> CertificatesError.Code? {
            let files = CertificateFiles(certificate: scratch.file(name), key: key)
            return #expect(throws: CertificatesError.self) { try files.load() }?.code
        }
        #expect(code("binary.pem") == .malformed)
        #expect(code("huge.pem") == .file(.tooLarge))
        #expect(code("folder.pem") == .file(.wrongKind))
        #expect(code("pipe.pem") == .file(.wrongKind))
    }

    @Test("A mounted secret is read through its links, both files of one version")
    func mountedSecret() throws {
        let first = try TestCertificate(["first.test"])
        let second = try TestCertificate(["second.test"])
        for (version, test) in [("..v1", first), ("..v2", second)] {
            try FileManager.default.createDirectory(atPath: scratch.file(version), withIntermediateDirectories: true)
            _ = scratch.write("\(version)/tls.crt", test.chain, mode: 0o644)
            _ = scratch.write("\(version)/tls.key", test.key, mode: 0o644)
        }
        scratch.link("..data", to: "..v1")
        scratch.link("tls.crt", to: "..data/tls.crt")
        scratch.link("tls.key", to: "..data/tls.key")
        let files = CertificateFiles(certificate: scratch.file("tls.crt"), key: scratch.file("tls.key"))
        #expect(try files.load().names == [.dns("first.test")])
        scratch.link("..data_tmp", to: "..v2")
        #expect(rename(scratch.file("..data_tmp"), scratch.file("..data")) == 0)
        #expect(try files.load().names == [.dns("second.test")])
    }
}
