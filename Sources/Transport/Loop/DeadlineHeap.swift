package import NIOCore

/// An object that waits for one deadline in its loop's ``DeadlineHeap``.
///
/// A base class rather than a closure or an existential, so that moving a deadline costs no allocation.
package class DeadlineNode {
    /// The position in the heap, or -1 if the node is not in it. Owned by the heap.
    fileprivate(set) final var heapIndex = -1
    /// The time at which this node is due; meaningful while it is in the heap.
    package fileprivate(set) final var deadline = NIODeadline.distantFuture

    package init() {}

    /// Called by the loop that owns the heap when the deadline has passed. The node has left the heap.
    package func deadlinePassed(now: NIODeadline) {}
}

/// A binary heap of deadlines in which each node knows its position, so that moving a deadline is O(log n) and needs no
/// search.
package struct DeadlineHeap {
    private var nodes: [DeadlineNode] = []

    package init() {}

    package var count: Int { nodes.count }

    /// The earliest deadline, or `nil` if the heap is empty.
    package var earliest: NIODeadline? { nodes.first?.deadline }

    /// Inserts the node at `deadline`, or moves it there if it is in the heap.
    package mutating func set(_ node: DeadlineNode, at deadline: NIODeadline) {
        if node.heapIndex < 0 {
            node.deadline = deadline
            node.heapIndex = nodes.count
            nodes.append(node)
            siftUp(from: node.heapIndex)
            return
        }
        precondition(nodes[node.heapIndex] === node, "a deadline of another loop's heap")
        let previous = node.deadline
        node.deadline = deadline
        if deadline < previous {
            siftUp(from: node.heapIndex)
        } else if deadline > previous {
            siftDown(from: node.heapIndex)
        }
    }

    package mutating func remove(_ node: DeadlineNode) {
        let index = node.heapIndex
        guard index >= 0 else { return }
        precondition(nodes[index] === node, "a deadline of another loop's heap")
        let last = nodes.removeLast()
        node.heapIndex = -1
        guard last !== node else { return }
        nodes[index] = last
        last.heapIndex = index
        siftUp(from: index)
        siftDown(from: last.heapIndex)
    }

    /// Removes and returns the earliest node if it is due, else returns `nil`.
    package mutating func popDue(now: NIODeadline) -> DeadlineNode? {
        guard let first = nodes.first, first.deadline <= now else { return nil }
        remove(first)
        return first
    }

    private mutating func siftUp(from start: Int) {
        var index = start
        let node = nodes[index]
        while index > 0 {
            let parent = (index &- 1) >> 1
            guard node.deadline < nodes[parent].deadline else { break }
            place(nodes[parent], at: index)
            index = parent
        }
        place(node, at: index)
    }

    private mutating func siftDown(from start: Int) {
        var index = start
        let node = nodes[index]
        while true {
            var child = index &* 2 &+ 1
            guard child < nodes.count else { break }
            if child &+ 1 < nodes.count, nodes[child &+ 1].deadline < nodes[child].deadline {
                child &+= 1
            }
            guard nodes[child].deadline < node.deadline else { break }
            place(nodes[child], at: index)
            index = child
        }
        place(node, at: index)
    }

    private mutating func place(_ node: DeadlineNode, at index: Int) {
        nodes[index] = node
        node.heapIndex = index
    }
}
