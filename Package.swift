// swift-tools-version: 6.2
import PackageDescription

/// Every target of ours: strict imports, no implicit existential, warnings are errors.
let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

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
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let x509 = Target.Dependency.product(name: "X509", package: "swift-certificates")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")

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
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    ],
    targets: [
        // C shims.
        .target(name: "COpenSSL", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .target(name: "CYAML", linkerSettings: [.linkedLibrary("yaml")]),

        // Sans-IO protocol code: no sockets, no clock, no task.
        .target(name: "DTLS", dependencies: ["COpenSSL", nioCore, deque], swiftSettings: strict),
        .target(name: "Tunnel", dependencies: [nioCore, deque], swiftSettings: strict),
        .target(name: "HopProtocol", dependencies: [nioCore], swiftSettings: strict),

        // Drivers and support.
        .target(
            name: "Transport",
            dependencies: ["DTLS", "Tunnel", nioCore, nioPosix, deque],
            swiftSettings: strict
        ),
        .target(name: "Settings", dependencies: ["CYAML"], swiftSettings: strict),
        .target(
            name: "Observability",
            dependencies: [nioCore, nioPosix, nioHTTP1, logging],
            swiftSettings: strict
        ),
        .target(name: "Certificates", dependencies: [x509, crypto], swiftSettings: strict),

        // The two processes.
        .target(
            name: "Gateway",
            dependencies: [
                "Certificates", "HopProtocol", "Observability", "Settings", "Transport",
                nioCore, nioPosix, nioHTTP1, nioSSL, deque, logging, lifecycle, crypto,
            ],
            swiftSettings: strict
        ),
        .target(
            name: "Agent",
            dependencies: [
                "HopProtocol", "Observability", "Settings", "Transport",
                nioCore, nioPosix, nioHTTP1, deque, logging, lifecycle,
            ],
            swiftSettings: strict
        ),
        .executableTarget(
            name: "hopgate",
            dependencies: ["Gateway", argumentParser],
            swiftSettings: strict,
            linkerSettings: staticRuntime
        ),
        .executableTarget(
            name: "hopagent",
            dependencies: ["Agent", argumentParser],
            swiftSettings: strict,
            linkerSettings: staticRuntime
        ),

        .target(name: "TestSupport", dependencies: ["Tunnel", nioCore], swiftSettings: strict),
        .testTarget(name: "TunnelTests", dependencies: ["Tunnel", "TestSupport", nioCore], swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
