"""The embedded engine: QEMU processes on a host, at any level, with no daemon, no root and no libvirt.

`argv` says what QEMU is given, `observed` what is there, `create` and `boot` make a machine and start it. Everything on
the host goes through `hosts.host.Host`, so that the same code works on this machine and inside a hypervisor.
"""
