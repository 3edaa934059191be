"""Creates a machine's directory on a host: identity, origin and disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.printable import one_line
from nestlab.engines import pve_node
from nestlab.engines.qemu import container, identity, launch, scripts
from nestlab.engines.qemu.argv import name_of
from nestlab.engines.qemu.cargo import Cargo
from nestlab.engines.qemu.environment import Environment
from nestlab.engines.qemu.first_guest import Opening
from nestlab.engines.qemu.machine_files import Below
from nestlab.home.paths import MachinePaths
from nestlab.hosts import gather_facts
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host, Result, called
from nestlab.images.image_files import ImageFiles
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import plain

Papers = dict[str, tuple[bytes, int]]
"""Files of a machine's directory, by name: content and mode."""

Question = tuple[str, Sequence[str]]
"""A script with its arguments."""


@dataclass
class Maker:
    """Of one lab's machines on one host. `glance`: what /dev/kvm of a hypervisor seems to be, once its first guest was
    made; `opening`: the shell that made that guest, and may start it."""

    host: Host
    environment: Environment
    cargo: Cargo
    glance: Facts | None = None
    opening: Opening | None = None
    opens: bool = True
    """Whether the shell that makes a hypervisor's first guest stays, to start it."""
    _met: bool = False

    async def create(self, spec: Spec, blueprint: Blueprint, say: Say, *, again: bool) -> tuple[str, int]:
        """What is there keeps its disk, which grows where it is to be larger; a machine that runs is else not touched.
        What was there before (see `scripts.PREPARE`), and the bytes that its disk is to have. `again`: what runs may
        have another definition than is wanted."""
        artifacts = await self.environment.library.artifacts(spec.image, blueprint.images[spec.image])
        paths, name = self.environment.place.of(spec.path), name_of(self.environment.lab, spec.path)
        disk = ("yes" if launch.needs_disk(spec, artifacts) else "no") + "+" * bool(spec.disks)
        words = (name, paths.root, spec.digest + "+" * again, spec.root, disk, str(spec.machine.disk or 0))
        size = launch.disk_size(spec, artifacts)
        state = await self._prepare(spec.path, words, self.papers(spec, blueprint), artifacts)
        own = disk.startswith("yes") and state in ("new", "bare", "small")
        if state not in ("running", "live") and (own or spec.disks):
            what = "disks" if spec.disks else "disk"
            say(f"making its {what} larger" if state == "small" and not spec.disks else f"making its {what}")
            tool = await self.environment.programs.qemu_img(say)
            command: Sequence[str] = ()
            if own and state == "small":
                command = launch.larger_argv(tool.argv, paths, size)
            elif own:
                files = await self.cargo.files(artifacts, say)
                command = launch.overlay_argv(tool.argv, paths, artifacts, files.get("root"), size)
            if spec.disks:
                beside = launch.over(spec, await self.beside(spec, blueprint, say))
                command = ("sh", "-c", launch.disks_script(tool.argv, paths, beside, command))
            script = scripts.on_host(scripts.DISK, self.host.level)
            await self._run(("sh", "-c", script, "disk", paths.root, *command), paths, env=tool.env)
        return state, size

    async def beside(self, spec: Spec, blueprint: Blueprint, say: Say) -> dict[str, tuple[str, str]]:
        """The files of its disks beside its own and of its CD-ROMs on this host, with their formats, by key."""
        found = {}
        for key in dict.fromkeys(spec.files):
            artifacts = await self.environment.library.artifacts(key, blueprint.images[key])
            launch.holds(spec, key, artifacts)
            files = await self.cargo.files(artifacts, say)
            found[key] = files["root" if "root" in files else "cdrom"], artifacts.format
        return found

    async def below(self, spec: Spec, blueprint: Blueprint, say: Say) -> tuple[Below, ...]:
        """What its disks are layers over on this host."""
        artifacts = await self.environment.library.artifacts(spec.image, blueprint.images[spec.image])
        found = []
        if launch.needs_disk(spec, artifacts):
            root = (await self.cargo.files(artifacts, say)).get("root", "")
            found.append(Below("disk.qcow2", root, artifacts.format if root else ""))
        for disk, under in launch.over(spec, await self.beside(spec, blueprint, say)):
            found.append(Below(f"{disk.id}.qcow2", *(under or ("", ""))))
        return tuple(found)

    async def make_disks(self, spec: Spec, blueprint: Blueprint, say: Say) -> None:
        """The files of disks that a machine which runs does not have yet."""
        paths, tool = self.environment.place.of(spec.path), await self.environment.programs.qemu_img(say)
        script = launch.disks_script(
            tool.argv, paths, launch.over(spec, await self.beside(spec, blueprint, say)), grow=False
        )
        await self._run(("sh", "-c", script), paths, env=tool.env)

    def papers(self, spec: Spec, blueprint: Blueprint) -> Papers:
        """The files of a machine's directory that say who it is and what it is made from."""
        made: dict[str, object] = {"path": spec.path, "digest": spec.digest, "names": spec.names}
        made |= {"root": spec.root, "disk": spec.machine.disk or 0}
        made |= {"disks": plain(spec.disks)} if spec.disks else {}
        papers = {
            "making": (json.dumps({"path": spec.path}).encode() + b"\n", 0o600),
            "made.new": (json.dumps(made, separators=(",", ":")).encode() + b"\n", 0o600),
        }
        lab_keys = self.environment.lab_keys
        mac = self.environment.management_mac(spec)
        key, authorized = lab_keys.host_key(spec.path), lab_keys.authorized_keys(spec.machine.ssh_keys)
        if blueprint.images[spec.image].own:
            if spec.machine.container:
                papers |= container.papers()
            node = lab_keys.node(spec.path) if pve_node.is_node(spec) else None
            members = identity.files(spec, host_key=key, authorized=authorized, management_mac=mac, node=node)
            return papers | {"identity": (identity.archive(members), 0o600)}
        from nestlab.images.cloud_init import seed

        return papers | {"seed.iso": (seed(spec, authorized, key.private, key.public, mac), 0o600)}

    async def close(self) -> None:
        if self.opening is not None:
            await self.opening.close()

    async def _prepare(self, path: str, words: Sequence[str], papers: Papers, artifacts: ImageFiles) -> str:
        """Make a machine's directory; what was there before (see `scripts.PREPARE`). In a hypervisor that has just come
        up, all that starting its first guest needs to know is asked with it."""
        paths = self.environment.place.of(path)
        if not self.host.level or self._met:
            argv = ("sh", "-c", scripts.on_host(scripts.alone(scripts.PREPARE), self.host.level), "prepare", *words)
            return self._state(path, (await self._run(argv, paths, input=identity.archive(papers))).text)
        self._met = True
        asked = (self.cargo.question(artifacts), (gather_facts.GLANCE, ()))
        if self.opens and words[4] == "no" and "identity" in papers and container.RUNNER not in papers:
            told = await self._open(path, words, papers, asked)
        else:
            both = scripts.together((scripts.PREPARE, words), *asked)
            told = scripts.apart((await self._run(both, paths, input=identity.archive(papers))).text)
        if len(told) != 1 + len(asked):
            raise self._odd(path, "it answers something else than it was asked")
        state, cargo, seen = told
        self.cargo.learn(artifacts, cargo)
        try:
            self.glance = gather_facts.of_marks(seen)
        except gather_facts.ODD:
            self.glance = None
        return self._state(path, state)

    def _state(self, path: str, said: str) -> str:
        """What was there before, as `scripts.PREPARE` says it."""
        if said.strip() not in scripts.PREPARED:
            raise self._odd(path, f"it says {one_line(said.strip())[:60]!r}")
        return said.strip()

    def _odd(self, path: str, why: str) -> LabError:
        where = called(self.host)
        hint = f"Somebody changed programs of nestlab's in {where}."
        return LabError(f"{where} does not make {path} as it was asked: {why}.", hint=hint)

    async def _open(self, path: str, words: Sequence[str], papers: Papers, asked: Sequence[Question]) -> list[str]:
        """The same for a machine without a disk; the shell then waits to start it."""
        (card, _), *lines = (papers[name] for name in ("identity", "making", "made.new"))
        cargo = "/".join(asked[0][1])
        more = (str(len(card)), *(line.decode().strip() for line, _ in lines), cargo)
        argv = scripts.opening((scripts.PREPARE, (*words, *more)), *asked)
        opening = Opening(self.host, path)
        try:
            told, failed = await opening.make(argv, 1 + len(asked), card + b"whole\n")
            if failed is not None:
                self._good(failed, self.environment.place.of(path))
        except BaseException:
            await opening.close()
            raise
        self.opening = opening
        return told

    async def _run(self, command: Sequence[str], paths: MachinePaths, **how: Any) -> Result:
        """Run what makes a machine's files. LabError with what it said."""
        return self._good(await self.host.run(command, check=False, **how), paths)

    def _good(self, result: Result, paths: MachinePaths) -> Result:
        if result.status != 0:
            said = (result.stderr or result.stdout).decode(errors="replace").strip()
            from nestlab.explain.explain import with_advice

            short = "No space left" in said
            hint = "Make room there." if short else with_advice("What the commands there said follows.", said)
            where = f" on {called(self.host)}" if called(self.host) != "this machine" else ""
            raise LabError(f"The files in {paths.root}{where} cannot be made.", hint=hint, detail=said)
        return result
