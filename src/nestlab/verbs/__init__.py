"""What a user can do: up, verify, stop, migrate, … as plain functions that the command line, tests and pages call.

They may use every room below; they raise errors and emit events, and never print or exit.
"""
