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
