"""The only doors to effects elsewhere: local processes, ssh, QEMU's monitor, guest agents, the API of a Proxmox VE.

Everything that comes in is text of somebody else's; here it becomes typed values or an error a person understands.
It knows nothing of labs or machines.
"""
