/// Returns the error for the first word of a command line that should be the name of a command and is none, or `nil` if
/// there is no such word.
///
/// - Parameters:
///   - words: The arguments of the program.
///   - name: The name of the program.
///   - root: The command that the program is.
///   - children: Returns the commands below a command, with their names.
package func unknownCommand<Command>(
    in words: some Sequence<String>,
    _ name: String,
    _ root: Command,
    children: (Command) -> [(name: String, command: Command)]
) -> String? {
    var (path, command) = (name, root)
    for word in words {
        let commands = children(command)
        guard !commands.isEmpty, !word.hasPrefix("-"), word != "help" else { return nil }
        guard let next = commands.first(where: { $0.name == word }) else {
            let guess = nearest(to: word, among: commands.map(\.name)).map { " Did you mean \"\(path) \($0)\"?" } ?? ""
            return """
                there is no command "\(word)".\(guess)
                Commands: \(commands.map(\.name).joined(separator: ", ")). See: \(path) --help
                """
        }
        (path, command) = ("\(path) \(word)", next.command)
    }
    return nil
}

/// Returns the error for options that stand before the name of a command, where they belong to the default command, or
/// `nil` if there are none. For arguments that could not be parsed.
///
/// - Parameters:
///   - words: The arguments of the program.
///   - name: The name of the program.
///   - commands: The names of its commands.
package func optionsBeforeCommand(in words: some Sequence<String>, _ name: String, commands: [String]) -> String? {
    let words = Array(words)
    // A value after "=" may be a secret.
    guard let option = words.first?.split(separator: "=").first, option.hasPrefix("-"),
        let command = words.dropFirst().first(where: { commands.contains($0) })
    else { return nil }
    return """
        \(option) stands before the command "\(command)". Options come after it: \(name) \(command) … \(option) …
        See: \(name) \(command) --help
        """
}
