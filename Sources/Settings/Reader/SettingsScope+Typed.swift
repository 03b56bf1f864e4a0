package import Formats

extension SettingsScope {
    package func string(_ key: String, flag: String? = nil, default fallback: String) -> Setting<String> {
        value(key, flag: flag, default: fallback, show: masked, parse: Scalars.string)
    }

    package func bool(_ key: String, default fallback: Bool) -> Setting<Bool> {
        value(key, default: fallback, parse: Scalars.bool)
    }

    package func int(_ key: String, default fallback: Int, in range: ClosedRange<Int>) -> Setting<Int> {
        value(key, default: fallback) { text throws(FormatError) in try Scalars.int(text, in: range) }
    }

    package func duration(
        _ key: String,
        default fallback: Duration,
        in range: ClosedRange<Duration>
    ) -> Setting<Duration> {
        value(key, default: fallback, show: Scalars.format) { text throws(FormatError) in
            try Scalars.duration(text, in: range)
        }
    }

    package func size(_ key: String, default fallback: Int, in range: ClosedRange<Int>) -> Setting<Int> {
        value(key, default: fallback, show: { "\($0)B" }) { text throws(FormatError) in
            try Scalars.size(text, in: range)
        }
    }

    package func address(_ key: String, default fallback: ListenAddress) -> Setting<ListenAddress> {
        value(key, default: fallback, parse: ListenAddress.parse)
    }

    package func choice<Choice: RawRepresentable<String> & CaseIterable & Sendable>(
        _ key: String,
        default fallback: Choice
    ) -> Setting<Choice> {
        value(key, default: fallback, show: \.rawValue) { text throws(FormatError) in
            try Scalars.choice(text, of: Choice.self)
        }
    }

    /// Reads a path. One from the configuration file is relative to that file's folder, any other to the working
    /// directory.
    package func path(_ key: String, flag: String? = nil, default fallback: @autoclosure () -> String)
        -> Setting<String>
    {
        guard case .value(let value) = read(key, flag: flag, parse: Scalars.string) else {
            let path = Setting(fallback(), .fallback)
            record(key, path.value, path.origin)
            return path
        }
        let path = Setting(resolved(value), value.origin)
        record(key, masked(path.value), path.origin)
        return path
    }

    /// Reads an optional path, resolved like ``path(_:flag:default:)``. The caller records its effective value.
    package func optionalPath(_ key: String, flag: String? = nil) -> Setting<String>? {
        guard case .value(let value) = read(key, flag: flag, parse: Scalars.string) else { return nil }
        return Setting(resolved(value), value.origin)
    }

    /// Reads an optional path of a program, and reports a problem unless this process may run it now.
    package func executableFile(_ key: String) -> Setting<String>? {
        guard let path = optionalPath(key) else { return nil }
        if let reason = reasonNotExecutable(path.value) {
            let what = "cannot run \(quoted(path.value)): \(reason)"
            report(key, path.origin, FormatError(what, "Name a program that this process may run."))
            return nil
        }
        record(key, masked(path.value), path.origin)
        return path
    }

    /// Reads a path of a file, and reports a problem unless this process can read it now. A start that would fail later
    /// fails here, with the line of the setting.
    package func readableFile(_ key: String, flag: String? = nil, isRequired: Bool) -> Setting<String>? {
        switch read(key, flag: flag, parse: Scalars.string) {
        case .absent:
            if isRequired { reportMissing(key) }
            return nil
        case .bad:
            return nil
        case .value(let value):
            let path = Setting(resolved(value), value.origin)
            if let reason = reasonNotReadable(path.value) {
                let what = "cannot read \(quoted(path.value)): \(reason)"
                report(key, path.origin, FormatError(what, "Name a file that this process may read."))
                return nil
            }
            record(key, masked(path.value), path.origin)
            return path
        }
    }

    private func resolved(_ path: Setting<String>) -> String {
        guard case .file(let file, _) = path.origin, !path.value.hasPrefix("/"), let slash = file.lastIndex(of: "/")
        else { return path.value }
        return file[...slash] + path.value
    }

    /// Reads a required secret, given as a value or by the path of a file that holds it (`token_file`,
    /// `HOPAGENT_TOKEN_FILE`, `--token-file`). No message or summary ever shows it.
    ///
    /// - Parameter parse: Parses the secret. An error that repeats the value is replaced by a generic one.
    package func secret<Value: Sendable>(
        _ key: String,
        parse: (String) throws(FormatError) -> Value
    ) -> Setting<Value>? {
        guard let given = secretIfGiven(key, parse: parse) else {
            reportMissing(key)
            return nil
        }
        return given.value.map { Setting($0, given.origin) }
    }

    /// Reads an optional secret, like ``secret(_:parse:)``.
    ///
    /// - Returns: `nil` if it is not given. The tuple's value is `nil` if it is given and cannot be used, which is
    ///   reported.
    package func secretIfGiven<Value: Sendable>(
        _ key: String,
        parse: (String) throws(FormatError) -> Value
    ) -> (value: Value?, origin: SettingOrigin)? {
        guard let found = findSecret(key) else { return nil }
        let outcome = scalar(found, key: key) { text throws(FormatError) -> Value in
            do throws(FormatError) {
                return try parse(text)
            } catch {
                guard !text.isEmpty, error.what.contains(text) || error.remedy.contains(text) else { throw error }
                throw FormatError("is not valid", "Check how it was copied.")
            }
        }
        guard case .value(let value) = outcome else { return (nil, found.origin) }
        record(key, "(set, not shown)", value.origin)
        return (value.value, value.origin)
    }

    private func findSecret(_ key: String) -> SettingsValue? {
        let fileKey = "\(key)_file"
        let name = fullKey(key)
        let file = pick(entry(key), entry(fileKey), key, instead: "\"\(key)\"")
        guard isOverridable else { return file }
        let flag = pick(
            reader.flag([flagName(key)], key: name),
            reader.flag([flagName(fileKey)], key: name),
            key,
            instead: "--\(flagName(key))"
        )
        // Variables with the suffix `_FILE` are handled by the reader, for all settings.
        let variable = reader.variable(variableName(key), key: name)
        return flag ?? variable ?? file
    }

    /// The value from one source, given directly or by the path of its file. Both together are reported as a problem.
    private func pick(
        _ value: SettingsValue?,
        _ file: SettingsValue?,
        _ key: String,
        instead: String
    ) -> SettingsValue? {
        guard let file else { return value }
        if let value {
            report(key, value.origin, .givenTwice)
            return .unusable
        }
        guard case .value(let path) = scalar(file, key: "\(key)_file", parse: Scalars.string) else { return .unusable }
        return reader.contents(of: resolved(path), namedBy: path.origin, key: fullKey(key), instead: instead)
    }
}

extension FormatError {
    /// The error of a value that is given both itself and as a file.
    package static let givenTwice = FormatError("is given both itself and as a file", "Keep one of the two.")
}
