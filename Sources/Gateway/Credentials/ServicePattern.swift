package import Formats
import Settings

/// Services that a token may offer: one name, all names that begin alike (`web-*`), or all (`*`).
package enum ServicePattern: Hashable, Sendable, CustomStringConvertible {
    case exact(String)
    /// The part before the star; empty stands for every service.
    case prefix(String)

    package init(_ text: String) throws(FormatError) {
        if text.utf8.last != UInt8(ascii: "*") {
            self = .exact(try Scalars.name(text))
        } else if text == "*" {
            self = .prefix("")
        } else {
            self = .prefix(try Scalars.name(String(text.dropLast())))
        }
    }

    package var description: String {
        switch self {
        case .exact(let name): name
        case .prefix(let start): "\(start)*"
        }
    }

    package func covers(_ service: String) -> Bool {
        switch self {
        case .exact(let name): name == service
        case .prefix(let start): service.hasPrefix(start)
        }
    }
}
