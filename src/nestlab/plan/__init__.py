"""The plan: from a blueprint and the observed world, the steps to take and the reason of each. Pure.

It knows labs and what hosts said of themselves; who performs the steps (`engines`, `verbs.apply`) is above it.
"""
