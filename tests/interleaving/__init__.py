"""Threads run in every order that matters: the tool (explorer) and the tests of the engine's parts under it."""
