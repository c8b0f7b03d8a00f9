"""Random bytes for every parser that reads what others send: `python -m tests.fuzz`, and in small doses in the tests of each module."""
