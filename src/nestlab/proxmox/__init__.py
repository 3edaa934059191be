"""A Proxmox VE as what a lab's outermost machines run on: how it is reached, set up and checked.

The engine that makes machines there is `engines.pve`; requests go through `wire.pve`.
"""
