// swift-tools-version: 6.2
import PackageDescription

/// Warnings are errors where this is set, as in continuous integration: a newer compiler's deprecation must not stop other
/// builds.
let warningsAreErrors = Context.environment["WARNINGS_AS_ERRORS"] == "1"

/// Every target: strict imports, no implicit existential.
let strict: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
    ] + (warningsAreErrors ? [.treatAllWarnings(as: .error)] : [])

/// Targets on the path of a datagram or a request. Their classes are confined to one loop. The run-time check of
/// exclusive access costs them a third of their CPU time (0.35 against 0.19 CPU-s/GB in Tunnel), so it runs in debug
/// builds only. All other targets keep it.
let hot =
    strict + [.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))]

/// The binaries carry the Swift runtime. It is a link setting of the two products, not `--static-swift-stdlib`,
/// because that flag also changes how every module is compiled: tests and products could not share one build.
/// What FoundationEssentials needs of its own is named here since only that flag would have found it.
let staticRuntime: [LinkerSetting] = [
    .unsafeFlags(["-static-stdlib"]),
    .linkedLibrary("_FoundationCShims"),
    .linkedLibrary("_FoundationCollections"),
]

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let hashTree = Target.Dependency.product(name: "HashTreeCollections", package: "swift-collections")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let x509 = Target.Dependency.product(name: "X509", package: "swift-certificates")
let asn1 = Target.Dependency.product(name: "SwiftASN1", package: "swift-asn1")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let cryptoExtras = Target.Dependency.product(name: "CryptoExtras", package: "swift-crypto")

let package = Package(
    name: "hopgate",
    products: [
        .executable(name: "hopgate", targets: ["hopgate"]),
        .executable(name: "hopagent", targets: ["hopagent"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    ],
    targets: [
        // C shims.
        .target(
            name: "COpenSSL",
            linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]
        ),
        .target(name: "CYAML", linkerSettings: [.linkedLibrary("yaml")]),
        .target(name: "CStore"),
        .target(name: "CProcess"),
        .target(name: "CDescriptors"),
        .target(name: "CCurl", linkerSettings: [.linkedLibrary("curl")]),

        // Formats of texts and bytes that every layer uses: JSON, dates, base64url, checksums, host names.
        .target(name: "Formats", swiftSettings: strict),

        // Starting threads, queues of blocking work, and signals between tasks.
        .target(name: "Threads", dependencies: [deque], swiftSettings: strict),

        // Sans-IO protocol code: no sockets, no clock, no task.
        .target(name: "DTLS", dependencies: ["COpenSSL", nioCore], swiftSettings: hot),
        .target(name: "Tunnel", dependencies: [nioCore, deque], swiftSettings: hot),
        .target(name: "HopProtocol", dependencies: ["Formats", "Tunnel", nioCore], swiftSettings: hot),
        .target(name: "ACME", dependencies: ["Formats", nioCore, x509, asn1, crypto], swiftSettings: strict),

        // Files that operators name.
        .target(name: "Files", swiftSettings: strict),

        // Drivers and support.
        .target(name: "Transport", dependencies: ["DTLS", "Tunnel", nioCore, nioPosix], swiftSettings: hot),
        .target(name: "Settings", dependencies: ["CYAML", "Formats"], swiftSettings: strict),
        .target(
            name: "Observability",
            dependencies: ["Formats", "Threads", nioCore, nioPosix, nioHTTP1, logging],
            swiftSettings: strict
        ),
        .target(name: "Store", dependencies: ["CStore", "Formats", "Threads", nioCore, crypto], swiftSettings: strict),
        .target(name: "Outbound", dependencies: ["CCurl", "Threads", nioCore], swiftSettings: strict),
        .target(
            name: "Certificates",
            dependencies: [
                "ACME", "CProcess", "Files", "Formats", "Outbound", "Store", "Threads", nioCore, x509, asn1, crypto,
            ],
            swiftSettings: strict
        ),

        // Beside the data path.
        .target(
            name: "Credentials",
            dependencies: [
                "Files", "Formats", "HopProtocol", "Settings", "Store", "Threads", nioCore, logging, crypto,
            ],
            swiftSettings: strict
        ),
        .target(
            name: "Cluster",
            dependencies: [
                "DTLS", "Files", "Formats", "HopProtocol", "Store", "Transport", "Tunnel", nioCore, nioPosix, hashTree,
                logging, x509, asn1, crypto,
            ],
            swiftSettings: strict
        ),

        // The two processes.
        .target(
            name: "Gateway",
            dependencies: [
                "ACME", "Certificates", "Cluster", "Credentials", "DTLS", "Files", "Formats", "HopProtocol",
                "Observability", "Outbound", "Settings", "Store", "Threads", "Transport", "Tunnel",
                nioCore, nioPosix, nioHTTP1, nioTLS, nioSSL, deque, hashTree, logging, unixSignals, crypto,
            ],
            swiftSettings: hot
        ),
        .target(
            name: "Agent",
            dependencies: [
                "DTLS", "Formats", "HopProtocol", "Observability", "Settings", "Threads", "Transport", "Tunnel",
                nioCore, nioPosix, deque, logging, unixSignals,
            ],
            swiftSettings: hot
        ),
        // The command lines. Operations holds what only the commands of the gateway do.
        .target(
            name: "Operations",
            dependencies: [
                "ACME", "Certificates", "Cluster", "Files", "Formats", "Observability", "Outbound", "Store",
                nioCore, nioPosix, nioTLS, nioSSL,
            ],
            swiftSettings: strict
        ),
        .executableTarget(
            name: "hopgate",
            dependencies: [
                "ACME", "CDescriptors", "Certificates", "Cluster", "Credentials", "DTLS", "Files", "Formats", "Gateway",
                "Observability",
                "Operations", "Settings", "Store", "Threads", nioCore, argumentParser,
            ],
            swiftSettings: strict,
            linkerSettings: staticRuntime
        ),
        .executableTarget(
            name: "hopagent",
            dependencies: [
                "Agent", "CDescriptors", "DTLS", "Formats", "Observability", "Settings", "Threads", argumentParser,
                logging,
            ],
            swiftSettings: strict,
            linkerSettings: staticRuntime
        ),

        // Tests mirror the targets; what needs the built programs is in Tests/System.
        .target(
            name: "TestSupport",
            dependencies: [
                "ACME", "CProcess", "Formats", "Store", "Threads", "Tunnel", nioCore, x509, asn1, crypto, cryptoExtras,
            ],
            swiftSettings: strict
        ),
        .testTarget(name: "FormatsTests", dependencies: ["Formats"], swiftSettings: strict),
        .testTarget(name: "ThreadsTests", dependencies: ["TestSupport", "Threads"], swiftSettings: strict),
        .testTarget(
            name: "DTLSTests",
            dependencies: ["DTLS", "TestSupport", "COpenSSL", nioCore],
            swiftSettings: strict
        ),
        .testTarget(name: "TunnelTests", dependencies: ["Tunnel", "TestSupport", nioCore], swiftSettings: strict),
        .testTarget(
            name: "HopProtocolTests",
            dependencies: ["Formats", "HopProtocol", "Tunnel", nioCore],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TransportTests",
            dependencies: ["Transport", "DTLS", "TestSupport", "Tunnel", nioCore, nioPosix],
            swiftSettings: strict
        ),
        .testTarget(
            name: "SettingsTests",
            dependencies: ["Formats", "Settings", "TestSupport"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "ObservabilityTests",
            dependencies: ["Formats", "Observability", "TestSupport", nioCore, nioPosix, logging],
            swiftSettings: strict
        ),
        .executableTarget(
            name: "StoreProbe",
            dependencies: ["Store", nioCore],
            path: "Tests/StoreTests/Probe",
            swiftSettings: strict
        ),
        .testTarget(
            name: "StoreTests",
            dependencies: ["Formats", "Store", "StoreProbe", "TestSupport", nioCore, crypto],
            exclude: ["Probe"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "OutboundTests",
            dependencies: ["Outbound", "TestSupport", nioCore, nioPosix, nioSSL],
            swiftSettings: strict
        ),
        .testTarget(
            name: "ACMETests",
            dependencies: ["ACME", "Formats", "TestSupport", nioCore, x509, asn1, crypto],
            swiftSettings: strict
        ),
        .testTarget(
            name: "CertificatesTests",
            dependencies: [
                "ACME", "Certificates", "Files", "Formats", "Outbound", "Store", "TestSupport", "Threads", nioCore,
                nioPosix, x509,
                asn1, crypto,
            ],
            swiftSettings: strict
        ),
        .testTarget(name: "FilesTests", dependencies: ["Files", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "CredentialsTests",
            dependencies: [
                "Cluster", "Credentials", "Formats", "HopProtocol", "Settings", "Store", "TestSupport", nioCore,
                logging,
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "ClusterTests",
            dependencies: ["Cluster", "Formats", "HopProtocol", "Store", "TestSupport", nioCore, logging],
            swiftSettings: strict
        ),
        .testTarget(
            name: "OperationsTests",
            dependencies: [
                "Certificates", "Cluster", "Formats", "Operations", "Store", "TestSupport", nioCore, logging,
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "GatewayTests",
            dependencies: [
                "Gateway", "ACME", "Certificates", "Cluster", "Credentials", "DTLS", "Formats", "HopProtocol",
                "Observability", "Outbound", "Settings", "Store", "TestSupport", "Transport", "Tunnel",
                nioCore, nioEmbedded, nioPosix, nioHTTP1, nioTLS, nioSSL, logging,
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "AgentTests",
            dependencies: [
                "Agent", "DTLS", "HopProtocol", "Observability", "Settings", "TestSupport", "Transport", "Tunnel",
                nioCore, nioEmbedded, nioPosix,
                logging,
            ],
            swiftSettings: strict
        ),
    ],
    swiftLanguageModes: [.v6]
)
