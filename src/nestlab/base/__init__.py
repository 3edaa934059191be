"""What every room may use: errors a user can cause, events of a run, proofs, colours, and text made fit for a terminal.

It imports nothing of nestlab's, has no effects but `files` (a local file replaced whole), and is light to import.
"""
