import Formats

/// A failure of the store: its category, its location, and a reason with the remedy.
package struct StoreError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The categories of failure that callers handle differently.
    package enum Code: Equatable, Sendable {
        /// The value or replica does not exist.
        case notFound
        /// `create`: the value already exists. `newest` is its version.
        case exists(newest: UInt64)
        /// `replace` or `remove`: another version is the newest now. The caller has to read and decide again.
        case conflict(newest: UInt64)
        /// The change may be visible, but it is unknown whether it would survive a crash. The caller has to read again.
        case unconfirmed
        /// A lease or an incarnation of this process has been superseded. All work under it has to stop.
        case fenced
        /// The name has characters outside the store's alphabet.
        case badName
        /// The size exceeds the limit.
        case tooLarge
        /// The file is not used, because it is open to other users, a symbolic link, or not a regular file.
        case refused
        /// The file is damaged or not made by a gateway: a wrong checksum, a wrong MAC, an unreadable format.
        case corrupt
        /// The newest version is older than one that was read before.
        case rolledBack
        /// The file was written by a newer release in a format that this one does not read.
        case newerFormat
        /// The store was written by an older release in a format that this one does not read.
        case olderFormat
        /// The file or store belongs to another cluster.
        case foreign
        /// The volume does not respond right now (EIO, ESTALE, an unreachable server). The call may be repeated later.
        case transient
        /// The call did not finish within the caller's time limit. It may still take effect.
        case stalled
        /// Too many calls are waiting for the volume, or too many writers change the same key.
        case busy
        /// The volume is read-only.
        case readOnly
        /// The volume has no space left.
        case full
        /// The store's folder is missing.
        case gone
        /// The process lacks permission.
        case denied
        /// The volume does not support a call that the store needs.
        case unsupported
        /// The store was closed, or the caller's task was cancelled.
        case closed
        /// The file that an argument names does not exist, or is not a plain file.
        case wrongFile
    }

    package let code: Code
    /// The location of the failure: an absolute path, or a key.
    package let place: String
    /// The reason and, where there is one, the remedy. Forms a sentence with ``place`` as its subject or after a colon.
    package let reason: String
    /// The failed file-system call, or `nil` if the failure has another cause.
    package let fault: FileFault?

    package init(_ code: Code, _ place: String, _ reason: String, fault: FileFault? = nil) {
        self.code = code
        self.place = place
        self.reason = reason
        self.fault = fault
    }

    package var description: String { "\(place): \(reason)" }

    /// The failure of a value with the remedy for it.
    func adding(_ remedy: String) -> StoreError { StoreError(code, place, "\(reason); \(remedy)", fault: fault) }

    /// The remedy for a file in a format that this release does not read yet.
    package static let laterFormatRemedy =
        "run the release that wrote it or a later one; if it was edited by hand, restore it from a backup"

    /// Creates the failure of a document in a later format than the one that this release reads.
    package static func laterFormat(_ place: String, _ format: Int64, reads known: Int64) -> StoreError {
        let reason = "has format \(format); this release reads \(known)"
        return StoreError(.newerFormat, place, "\(reason); \(laterFormatRemedy)")
    }

    /// Whether the failure may pass by itself: what was read last stays valid, and the call is repeated later.
    package var isTransient: Bool {
        switch code {
        case .transient, .stalled, .busy, .gone, .unconfirmed: true
        default: false
        }
    }

    /// Whether a value was changed by another writer, or may have been changed by this call: the caller has to read and
    /// decide again.
    package var isConflict: Bool {
        switch code {
        case .exists, .conflict, .notFound, .unconfirmed: true
        default: false
        }
    }
}

extension StoreError {
    /// Creates the failure that a file-system fault stands for.
    package init(_ fault: FileFault) {
        let system = "\(fault.call.rawValue) failed"
        let (code, reason): (Code, String) =
            switch fault.kind {
            case .missing: (.notFound, "there is no such file or folder")
            case .exists: (.exists(newest: 0), "already exists")
            case .symbolicLink:
                (.refused, "is a symbolic link, which is not followed here; replace it with the real file or folder")
            case .wrongKind:
                (.refused, "is not of the expected kind (file or folder, and no link); move it away")
            case .stale, .unreachable:
                (.transient, "\(system): the volume does not answer as it should; check the server and the network")
            case .readOnly: (.readOnly, "\(system): the volume is read-only; mount it with write access")
            case .full: (.full, "\(system): no space is left on the volume; free some space or enlarge it")
            case .tooLarge where fault.call == .list:
                (.tooLarge, "holds more names than allowed; move those away that do not belong there")
            case .tooLarge: (.tooLarge, "is larger than allowed; delete it with: rm \(shellWord(fault.path))")
            case .denied: (.denied, "\(system): \(fault.denial)")
            case .unsupported:
                (.unsupported, "\(system): the volume does not support this call; run \"hopgate store check\"")
            case .other: (.transient, "\(system): \(fault)")
            }
        self.init(code, fault.path, reason, fault: fault)
    }
}
