"""What goes wrong between real sockets, and how it ends.

`python -m pytest -m fault` runs the library through it. `python -m tests.faults` does the same to other libraries, where it makes sense
there, and prints a table.
"""
