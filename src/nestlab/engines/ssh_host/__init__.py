"""The embedded engine on a host that ssh reaches, as the lab's own: `on: ssh://…`.

Machines there are made and run as on this computer, by the same code. What that needs beside a shell is sent there
once: images and nestlab's own QEMU by their content, and as much of nestlab as the switch is made of.
"""
