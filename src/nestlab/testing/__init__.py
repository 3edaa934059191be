"""Stand-ins for tests, nestlab's and yours: an engine of pretended machines, and a Proxmox VE that answers like one.

No verb of nestlab's imports this room.
"""
