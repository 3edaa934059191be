"""What there is, what is to be done, and why: a blueprint and an observed world in, steps out. Pure.

It knows labs and what hosts said of themselves; who performs the steps (`engines`, `verbs.apply`) is above it.
"""
