"""Scriptling's network libraries for Python scripts: `scriptling.net.unicast`, `scriptling.net.multicast`.

These are its documents' names, signatures and results, and its bytes on the wire. Where it has defects we differ; the README lists how.
"""
