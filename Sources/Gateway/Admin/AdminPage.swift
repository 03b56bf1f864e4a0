package import Formats

/// A list of the admin port in pages, so that no answer takes long to build or exceeds what a client accepts.
///
/// The rows have a fixed order. A page begins after the row whose cursor the client names, and states the cursor after
/// which the next page begins. A row that comes or goes between two pages makes no other one appear twice or never.
package enum AdminPage {
    /// The maximum number of rows of a page.
    package static let rowLimit = 500
    /// The size in bytes at which a page ends. One row may exceed it by its own size.
    package static let sizeLimit = 1 << 20
    /// The number of rows that a summary shows.
    package static let worstLimit = 20

    /// Creates the answer with one page.
    ///
    /// - Parameters:
    ///   - name: The name of the list in the answer.
    ///   - count: The number of rows of all pages.
    ///   - rows: The rows after the cursor of the request, of which more than ``rowLimit`` are not needed.
    ///   - cursor: The cursor of a row. Rows with equal cursors stay on one page.
    package static func answer<Row>(
        _ name: String,
        count: Int,
        _ rows: [Row],
        cursor: (Row) -> String,
        _ document: (Row) -> [String: JSONValue]
    ) -> [String: JSONValue] {
        var entries: [JSONValue] = []
        var size = 0
        var next = JSONValue.null
        for row in rows {
            if entries.count >= rowLimit || size >= sizeLimit {
                let last = cursor(rows[entries.count - 1])
                if cursor(row) != last {
                    next = .string(last)
                    break
                }
            }
            let entry = JSONValue.object(document(row))
            size += entry.json.count
            entries.append(entry)
        }
        return ["count": .integer(Int64(count)), name: .array(entries), "next": next]
    }

    /// The rows that a summary shows: those with the lowest ranks. They end at ``sizeLimit`` bytes, as a page does.
    static func worst<Row>(
        _ rows: [Row],
        rank: (Row) -> (Int, Int64),
        _ document: (Row) -> [String: JSONValue]
    ) -> JSONValue {
        var worst: [(rank: (Int, Int64), row: Row)] = []
        for row in rows {
            let rank = rank(row)
            if worst.count == worstLimit {
                guard rank < worst[worstLimit - 1].rank else { continue }
                worst.removeLast()
            }
            worst.insert((rank, row), at: worst.firstIndex { rank < $0.rank } ?? worst.endIndex)
        }
        var entries: [JSONValue] = []
        var size = 0
        for (_, row) in worst where size < sizeLimit {
            let entry = JSONValue.object(document(row))
            size += entry.json.count
            entries.append(entry)
        }
        return .array(entries)
    }

    /// The number of rows in each state.
    static func counts<State: CaseIterable & Hashable>(
        _ states: some Sequence<State>,
        _ name: (State) -> String
    ) -> JSONValue {
        var counts = Dictionary(uniqueKeysWithValues: State.allCases.map { ($0, Int64(0)) })
        for state in states { counts[state, default: 0] += 1 }
        return .object(Dictionary(uniqueKeysWithValues: counts.map { (name($0.key), .integer($0.value)) }))
    }
}
