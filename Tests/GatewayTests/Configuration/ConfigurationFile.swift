import Gateway
import Glibc
import Settings
import TestSupport

/// Reads gateway configurations that a test writes.
final class ConfigurationFile {
    private let scratch = ScratchFolder()
    /// The path of the folder with a final slash.
    var folder: String { scratch.path + "/" }

    @discardableResult
    func write(_ name: String, _ text: String, mode: mode_t = 0o600) -> String {
        scratch.write(name, text, mode: mode)
    }

    func load(
        _ yaml: String? = nil,
        environment: [String: String] = [:],
        flags: [String: String] = [:]
    ) throws(SettingsError) -> GatewayConfiguration {
        let file = yaml.map { write("F", $0) }
        return try GatewayConfiguration.load(file: file, environment: environment, flags: flags)
    }

    /// The lines of the error without the path of the folder.
    func problems(
        _ yaml: String? = nil,
        environment: [String: String] = [:],
        flags: [String: String] = [:]
    ) -> [String] {
        do throws(SettingsError) {
            _ = try load(yaml, environment: environment, flags: flags)
            return []
        } catch {
            return error.description.split(separator: "\n").map { String($0).replacing(folder, with: "") }
        }
    }

    /// The output of `config check` with a single space between columns.
    func check(
        _ yaml: String,
        environment: [String: String] = [:]
    ) throws(SettingsError) -> [String] {
        let table = try GatewayConfiguration.check(file: write("F", yaml), environment: environment, flags: [:])
        return table.replacing(folder, with: "").split(separator: "\n").map {
            $0.split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ")
        }
    }
}
