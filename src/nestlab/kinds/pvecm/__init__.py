"""Clusters of Proxmox VE nodes: what a node says of its cluster, what is to be done next, and the scripts that do it.

Nothing here has effects, and nothing is remembered: what all nodes say decides, so whoever was interrupted goes on from
what is there. The behaviour of Proxmox's programs is from its sources (pve-cluster 9.1: PVE/CLI/pvecm.pm,
PVE/Cluster/Setup.pm, PVE/API2/ClusterConfig.pm, PVE/Corosync.pm, pmxcfs).
"""
