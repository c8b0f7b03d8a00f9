"""What a message costs: this library beside what one would otherwise use or write by hand.

`python -m tests.benchmarks` runs all parts, `--part NAME` one. In every round all peers take their turn, so that a noisy minute
of the machine falls on all of them, and every ratio compares figures of the same round.

Where the two processes of a round trip run decides more than most peers do. On two cores each trip pays for waking an
idle one, which in a virtual machine is several times the cost of the work and draws all ratios towards 1; left to the
scheduler, a run is in one of these modes or the other, depending on what else the machine does. So they share a core
unless told otherwise: that shows the software. Many clients keep both processes busy, and there the scheduler decides.

A part is a `Part` (see `part`), which its module keeps as `PART` and `__main__` lists in PARTS. It says

- its `name` on the command line, and in one sentence (`heading`) what is measured
- its `cells`, a table each. A `Cell` says what every peer is asked to do: `size`, `clients` (and by `noun` what these are), a
  `variant` in words, how much (`count` messages after `warm` of them, or `seconds`), and where (`placement`). Options change
  these, `--quick` divides them
- its `peers`. A `Peer` names its ends as "module:function", and the modules and the program it cannot do without
- how to `measure` one peer in one cell in one round: a function of both that returns a flat dict of figures and raises
  `EndFailed`. `round_trips` is one. Times are in seconds, costs per message, and where they exist they are called `p50`, `p99`,
  `cpu` (both processes), `server_cpu`, `client_cpu`, `rate`, `sent`, `received`, `faults`; others may stand beside them
- its `columns`: a title, and what stands below it, made by `spread`, `middle`, `ratio`, `growth` or `share` (see `table`) from
  the name of a figure, and of the peer or the cell to compare with
- its `bars`: which figures of which cells are drawn in the picture, if any, and by which labels.

What came is compared with what was sent, by every end that receives. `--json` keeps every figure of every round; `--from` makes
tables and a picture of such files without measuring.

Ends are run by `End(where, cell, core=…, address=…)`, each in a process of its own (see `process` and `end`). A server gets
`(announce, cell)`, says its address through `announce`, and is asked at any time what it has spent, and received, if it gave
`announce` what counts that. A client gets `(address, gate)`; `gate.time(trip)`, or `gate.wait_to_start()` and `gate.report(…)`,
do the talking, and `say` says any other fact. An `address` of "" makes a client of an end that needs none, or listens itself.
"""
