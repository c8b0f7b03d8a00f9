"""What a message costs: this library beside what one would otherwise write by hand.

`python -m tests.benchmarks` runs these parts. *echo* and *websocket*: the round trip of one message between two
processes, on loopback. *many*: the CPU a server spends per echo while many clients are busy. *topics*: what a delivery from one thread to
others of its process costs. The peers take turns within every round, so that
a noisy minute of the machine falls on all of them, and every ratio compares figures of the same round.

Where the two processes of a round trip run decides more than most peers do. On two cores each trip pays for waking an
idle one, which in a virtual machine is several times the cost of the work and draws all ratios towards 1; left to the
scheduler, a run is in one of these modes or the other, depending on what else the machine does. So they share a core
unless told otherwise: that shows the software. Many clients keep both processes busy, and there the scheduler decides.
"""
