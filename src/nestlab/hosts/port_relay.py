"""A port of a hypervisor's own address that leads to the same port of its 127.0.0.1: by systemd, without nestlab."""

from __future__ import annotations

from nestlab.base.errors import LabError
from nestlab.base.printable import one_line
from nestlab.hosts.host import Host

PROXY = "/usr/lib/systemd/systemd-socket-proxyd"

RELAY = f"""
unit=nestlab-port-$2
[ -x {PROXY} ] || {{ echo "it has no {PROXY}" >&2; exit 1; }}
! systemctl -q is-active "$unit.socket" || exit 0
systemctl -q stop "$unit.socket" "$unit.service" 2>/dev/null
systemctl -q reset-failed "$unit.socket" "$unit.service" 2>/dev/null
exec systemd-run -q --unit="$unit" --socket-property=ListenStream="$1:$2" -- {PROXY} "127.0.0.1:$2"
"""
"""Arguments: address, port. What is so already stays."""

UNRELAY = """
systemctl -q stop "nestlab-port-$1.socket" "nestlab-port-$1.service" 2>/dev/null
exit 0
"""
"""Argument: the port."""

IN_TIME = 60.0
"""Nominal seconds for either."""


async def relay(host: Host, address: str, port: int) -> None:
    """LabError where the hypervisor has no systemd, or something else listens there."""
    argv = ("sh", "-c", RELAY, "relay", address, str(port))
    done = await host.run(argv, check=False, timeout=IN_TIME)
    if done.status != 0:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        what = f"No port of {host.path} can lead to a machine inside it: {one_line(said)[:200]}."
        raise LabError(what, hint=f"It takes systemd in it, as nestlab's own image has. See: nestlab ssh {host.path}")


async def unrelay(host: Host, port: int) -> None:
    """Undo it; one that is not there is no error."""
    await host.run(("sh", "-c", UNRELAY, "unrelay", str(port)), check=False, timeout=IN_TIME)
