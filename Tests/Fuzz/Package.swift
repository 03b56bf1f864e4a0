// swift-tools-version: 6.2
import PackageDescription

// Fuzz targets: `scripts/fuzz tunnel 600` builds and runs one. A package of its own, because coverage instrumentation
// and libFuzzer's `main` are flags that the shipped targets must not have. The code under test is linked in by path.
let instrumented: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .unsafeFlags(["-sanitize=fuzzer", "-parse-as-library"]),
]
let fuzzer: [LinkerSetting] = [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let x509 = Target.Dependency.product(name: "X509", package: "swift-certificates")
let asn1 = Target.Dependency.product(name: "SwiftASN1", package: "swift-asn1")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")

let package = Package(
    name: "hopgate-fuzz",
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    ],
    targets: [
        .target(name: "Formats", swiftSettings: instrumented),
        .target(name: "Threads", dependencies: [deque], swiftSettings: instrumented),
        .target(name: "Tunnel", dependencies: [nioCore, deque], swiftSettings: instrumented),
        .target(
            name: "COpenSSL",
            cSettings: [.unsafeFlags(["-fsanitize=fuzzer-no-link"])],
            linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]
        ),
        .target(name: "DTLS", dependencies: ["COpenSSL", nioCore], swiftSettings: instrumented),
        .target(name: "HopProtocol", dependencies: ["Formats", "Tunnel", nioCore], swiftSettings: instrumented),
        .target(name: "OriginHTTP1", dependencies: ["HopProtocol", nioCore], swiftSettings: instrumented),
        .target(
            name: "CYAML",
            cSettings: [.unsafeFlags(["-fsanitize=fuzzer-no-link"])],
            linkerSettings: [.linkedLibrary("yaml")]
        ),
        .target(name: "Settings", dependencies: ["CYAML", "Formats"], swiftSettings: instrumented),
        .target(name: "CStore", cSettings: [.unsafeFlags(["-fsanitize=fuzzer-no-link"])]),
        .target(
            name: "Store",
            dependencies: ["CStore", "Formats", "Threads", nioCore, crypto],
            swiftSettings: instrumented
        ),
        // The rows of the session directory.
        .target(
            name: "Cluster",
            dependencies: ["Formats", "HopProtocol", "Store"],
            sources: ["Directory/SessionRecord.swift", "Directory/SessionRow.swift"],
            swiftSettings: instrumented
        ),
        .target(name: "ACME", dependencies: ["Formats", nioCore, x509, asn1, crypto], swiftSettings: instrumented),
        .target(name: "Files", swiftSettings: instrumented),
        // Without the parts that drive orders and the store.
        .target(
            name: "Certificates",
            dependencies: ["ACME", "Files", "Formats", "Store", x509, asn1, crypto],
            sources: [
                "Sources/CertificateDocument.swift", "Values/CertificateStatus.swift", "Values/CertificatesError.swift",
                "Values/ServerCertificate.swift", "Values/UnusableFormat.swift", "Values/WeakAlgorithm.swift",
            ],
            swiftSettings: instrumented
        ),
        .target(name: "EdgeHello", swiftSettings: instrumented),
        .target(name: "FuzzDriver", swiftSettings: instrumented),
        .executableTarget(
            name: "FuzzAcme",
            dependencies: ["FuzzDriver", "ACME", "Certificates", "Formats", "Store", nioCore],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
        .executableTarget(
            name: "FuzzBackup",
            dependencies: ["FuzzDriver", "Store"],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
        .executableTarget(
            name: "FuzzDtls",
            dependencies: ["FuzzDriver", "DTLS", nioCore],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
        .executableTarget(
            name: "FuzzHello",
            dependencies: ["FuzzDriver", "EdgeHello"],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
        .executableTarget(
            name: "FuzzHop",
            dependencies: ["FuzzDriver", "Formats", "HopProtocol", nioCore],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
        .executableTarget(
            name: "FuzzOrigin",
            dependencies: ["FuzzDriver", "HopProtocol", "OriginHTTP1", nioCore],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
        .executableTarget(
            name: "FuzzSettings",
            dependencies: ["FuzzDriver", "Formats", "Settings"],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
        .executableTarget(
            name: "FuzzStore",
            dependencies: ["FuzzDriver", "Cluster", "Formats", "Store"],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
        .executableTarget(
            name: "FuzzTunnel",
            dependencies: ["FuzzDriver", "Tunnel", nioCore],
            swiftSettings: instrumented,
            linkerSettings: fuzzer
        ),
    ],
    swiftLanguageModes: [.v6]
)
