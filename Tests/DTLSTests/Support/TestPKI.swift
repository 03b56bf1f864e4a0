import Foundation

/// Certificates for the tests, created once per process with the `openssl` command in a scratch folder.
final class TestPKI: Sendable {
    static let shared: TestPKI = {
        atexit { try? FileManager.default.removeItem(atPath: TestPKI.scratch) }
        do { return try TestPKI() } catch { fatalError("the test certificates cannot be made: \(error)") }
    }()

    struct Identity: Sendable {
        var chain: [UInt8]
        var key: [UInt8]
        var chainPath: String
        var keyPath: String
    }

    private static let scratch = NSTemporaryDirectory() + "dtls-tests-\(UUID().uuidString)"

    let folder: String
    let rootPath: String
    let root: [UInt8]
    /// An authority that has signed none of these certificates.
    let otherRoot: [UInt8]
    /// A certificate for localhost, *.wild.test, 127.0.0.1 and ::1.
    let server: Identity
    /// A certificate for second.test alone, with an RSA key.
    let second: Identity
    let expired: Identity
    let future: Identity
    /// A leaf below an intermediate; sent with the intermediate and the root.
    let deep: Identity
    /// A certificate with so many names that its flight takes several datagrams.
    let large: Identity

    private init() throws {
        let folder = Self.scratch
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        self.folder = folder
        let maker = Maker(folder: folder)
        try maker.prepare()
        try maker.root("root")
        try maker.root("other")
        rootPath = folder + "/root.pem"
        root = try maker.bytes("root.pem")
        otherRoot = try maker.bytes("other.pem")
        let names = "DNS:localhost,DNS:*.wild.test,IP:127.0.0.1,IP:::1"
        server = try maker.leaf("server", names: names)
        second = try maker.leaf("second", names: "DNS:second.test", rsa: true)
        expired = try maker.leaf("expired", names: names, from: "20200101000000Z", to: "20210101000000Z")
        future = try maker.leaf("future", names: names, from: "20980101000000Z", to: "20990101000000Z")
        try maker.intermediate("middle")
        deep = try maker.leaf("deep", names: names, issuer: "middle", append: ["middle", "root"])
        let many = (0..<150).map { "DNS:host-number-\($0).large.test" }.joined(separator: ",")
        large = try maker.leaf("large", names: "DNS:localhost,\(many)")
    }

    /// Returns the SHA-256 of the first certificate of a PEM file.
    func certificateDigest(_ path: String) throws -> [UInt8] {
        try Maker(folder: folder).digest("openssl x509 -in '\(path)' -outform DER")
    }

    /// Returns the SHA-256 of the SubjectPublicKeyInfo of the first certificate of a PEM file.
    func keyDigest(_ path: String) throws -> [UInt8] {
        try Maker(folder: folder).digest("openssl x509 -in '\(path)' -noout -pubkey | openssl pkey -pubin -outform DER")
    }
}

private struct Maker {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    let folder: String

    func prepare() throws {
        let configuration = """
            [ca]
            default_ca=c
            [c]
            database=index.txt
            new_certs_dir=.
            rand_serial=yes
            default_md=sha256
            policy=p
            unique_subject=no
            [p]
            commonName=supplied
            """
        try configuration.write(toFile: folder + "/ca.cnf", atomically: true, encoding: .utf8)
        try "".write(toFile: folder + "/index.txt", atomically: true, encoding: .utf8)
    }

    func root(_ name: String) throws {
        try run(
            """
            openssl req -x509 \(Self.ecKey) -nodes -keyout \(name).key -out \(name).pem -days 3650 \
            -subj '/CN=\(name)' -addext keyUsage=critical,keyCertSign
            """
        )
    }

    func intermediate(_ name: String) throws {
        try "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
            .write(toFile: folder + "/\(name).ext", atomically: true, encoding: .utf8)
        try sign(name, key: Self.ecKey, issuer: "root", from: nil, to: nil)
    }

    func leaf(
        _ name: String,
        names: String,
        rsa: Bool = false,
        issuer: String = "root",
        append: [String] = [],
        from: String? = nil,
        to: String? = nil
    ) throws -> TestPKI.Identity {
        try "subjectAltName=\(names)\nextendedKeyUsage=serverAuth\n"
            .write(toFile: folder + "/\(name).ext", atomically: true, encoding: .utf8)
        try sign(name, key: rsa ? "-newkey rsa:2048" : Self.ecKey, issuer: issuer, from: from, to: to)
        for other in append { try run("cat \(other).pem >> \(name).pem") }
        return TestPKI.Identity(
            chain: try bytes("\(name).pem"),
            key: try bytes("\(name).key"),
            chainPath: "\(folder)/\(name).pem",
            keyPath: "\(folder)/\(name).key"
        )
    }

    private static let ecKey = "-newkey ec -pkeyopt ec_paramgen_curve:P-256"

    private func sign(_ name: String, key: String, issuer: String, from: String?, to: String?) throws {
        let dates = from.map { "-startdate \($0) -enddate \(to!)" } ?? "-days 365"
        try run("openssl req \(key) -nodes -keyout \(name).key -out \(name).csr -subj '/CN=\(name)'")
        try run(
            """
            openssl ca -batch -notext -config ca.cnf -cert \(issuer).pem -keyfile \(issuer).key -in \(name).csr \
            \(dates) -extfile \(name).ext -out \(name).pem
            """
        )
    }

    func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder + "/" + name)))
    }

    func digest(_ producer: String) throws -> [UInt8] {
        let hex = try run("\(producer) | openssl dgst -sha256 -r").prefix(64)
        return stride(from: 0, to: 64, by: 2).map { at in
            let start = hex.index(hex.startIndex, offsetBy: at)
            return UInt8(hex[start..<hex.index(start, offsetBy: 2)], radix: 16)!
        }
    }

    @discardableResult
    private func run(_ command: String) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "set -e; \(command)"]
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        let output = Pipe()
        process.standardOutput = output
        let errors = folder + "/stderr.txt"
        _ = FileManager.default.createFile(atPath: errors, contents: nil)
        process.standardError = FileHandle(forWritingAtPath: errors)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            let text = (try? String(contentsOfFile: errors, encoding: .utf8)) ?? ""
            throw Failure(description: "\(command): \(text)")
        }
        return String(decoding: data, as: UTF8.self)
    }
}
