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
        let files = CertificateFiles(
            certificate: scratch.write("chain.pem", chain),
            key: scratch.write("key.pem", key)
        )
        return try files.load()
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
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
        #expect(failure(test.chain, encrypted)?.reason.contains("encrypted") == true)
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
