import Store

/// The rows of a journal, kept up to date with the changes that its reader returns.
final class MirroredJournal {
    let reader: JournalReader
    private(set) var table: JournalTable?

    init(volume: Volume, replica: Incarnation) {
        reader = JournalReader(volume: volume, replica: replica)
    }

    func poll() throws(StoreError) {
        guard let changes = try reader.poll() else { return }
        if table == nil { table = JournalTable() }
        table?.apply(changes)
    }
}
