"""The door to a Proxmox VE: its API over HTTPS (`client.Pve`) or through `pvesh` (`pvesh.Pvesh`), behind one protocol
(`api.Api`)."""
