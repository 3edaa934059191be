"""QEMU run by a host's libvirt: the embedded engine with libvirt's domains instead of processes of its own.

All that a machine is made of (its directory, its disks, its identity) is as in `engines.qemu`; what runs it is a
domain, defined from XML that is compiled purely (`domain`), read back, and compared with what libvirt has (`drift`).
libvirt is asked by its own `virsh` on the host (`virsh`), so nothing is installed on the user's computer, at any depth.
Domains are nestlab's by an element of their metadata (`mark`), and no others are ever touched.
"""
