/// Why the store could not do something: what, where, and how to mend it.
package struct StoreError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// There is no such value, replica or generation.
        case notFound
        /// `create`: the value is there already. `newest` is its version.
        case exists(newest: UInt64)
        /// `replace` or `remove`: another version is the newest now. Read again and decide again.
        case conflict(newest: UInt64)
        /// The change is visible, or may be, but nobody knows whether it would survive a crash. Read again.
        case unconfirmed
        /// A lease, an incarnation or a generation of ours has been overtaken. Stop what was done under it.
        case fenced
        /// A name outside the alphabet of the store.
        case badName
        /// Larger than such a thing may be.
        case tooLarge
        /// Others may read or write it, or it is a symbolic link, or not a plain file: not used.
        case refused
        /// Damaged, or not made by us: a wrong checksum, a wrong MAC, a format that cannot be read.
        case corrupt
        /// Written by a newer release, in a format that this one does not read.
        case newerFormat
        /// It belongs to another cluster.
        case foreign
        /// The volume does not answer right now (EIO, ESTALE, a server away). Try again later.
        case transient
        /// No answer within the time that the caller had. What was asked may still happen.
        case stalled
        /// More is waiting for the volume than the store holds back.
        case busy
        /// The volume takes no writes.
        case readOnly
        /// The volume has no space left.
        case full
        /// The store's folder is not there.
        case gone
        /// The process may not use it.
        case denied
        /// The volume cannot do something that the store needs.
        case unsupported
        /// The store was closed.
        case closed
    }

    package let code: Code
    /// What it is about: an absolute path, or a key.
    package let place: String
    package let reason: String
    /// The call that failed, if it was one.
    package let fault: FileFault?

    package init(_ code: Code, _ place: String, _ reason: String, fault: FileFault? = nil) {
        self.code = code
        self.place = place
        self.reason = reason
        self.fault = fault
    }

    package var description: String { "\(place): \(reason)" }

    /// May pass by itself: what was read last stays good, and the call is made again later.
    package var isTransient: Bool {
        switch code {
        case .transient, .stalled, .busy, .gone, .unconfirmed: true
        default: false
        }
    }
}

extension StoreError {
    /// The meaning of a call that failed.
    package init(_ fault: FileFault) {
        let system = "\(fault.call.rawValue) failed"
        let (code, reason): (Code, String) =
            switch fault.kind {
            case .missing: (.notFound, "there is no such file or folder")
            case .exists: (.exists(newest: 0), "is there already")
            case .symbolicLink:
                (.refused, "is a symbolic link, which is not followed here; put the real thing in its place")
            case .wrongKind: (.refused, "is not of the kind that has to be here; remove it")
            case .stale, .unreachable: (.transient, "\(system): the volume does not answer as it should")
            case .readOnly: (.readOnly, "\(system): the volume is read-only; mount it with write access")
            case .full: (.full, "\(system): no space is left on the volume; free some or enlarge it")
            case .tooLarge: (.tooLarge, "holds more than such a folder or file may")
            case .denied:
                (.denied, "\(system): permission denied; give the folder to the user that the gateway runs as")
            case .unsupported:
                (.unsupported, "\(system): the volume cannot do this; \"hopgate store check\" says what it can")
            case .other: (.transient, "\(system): \(fault)")
            }
        self.init(code, fault.path, reason, fault: fault)
    }
}
