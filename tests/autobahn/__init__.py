"""The Autobahn TestSuite against both of our ends: `python -m tests.autobahn` makes an environment for it, and writes RESULTS.md."""
