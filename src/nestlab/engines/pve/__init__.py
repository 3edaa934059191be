"""The engine for a Proxmox VE: the machines of a lab's own level are its guests, made through the API alone.

`hardware` says what a guest is given, `placement` on which node, `tags` how it is known as nestlab's, `vmids` which
number it has; `create`, `power` and `migration` act. Requests go through `wire.pve`.
"""
