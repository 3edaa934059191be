"""What a machine is started with on a host: its command line's plan, from its image's files and its directory there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.qemu import container, launch
from nestlab.engines.qemu.accel import Choice
from nestlab.engines.qemu.argv import Launch, argv
from nestlab.engines.qemu.create import Maker
from nestlab.engines.qemu.hardware_argv import generation
from nestlab.engines.qemu.room import of as room_of
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.readiness import Ready


@frozen
class Start:
    """`words` compiles the command line; `ready`: how it is known that the machine is up."""

    launch: Launch
    words: Callable[[Launch], list[str]]
    env: dict[str, str]
    user: str
    ready: Ready


async def composed(
    maker: Maker, spec: Spec, blueprint: Blueprint, choice: Choice, say: Say, *, keep: bool = False
) -> Start:
    """The start of a machine on the maker's host, where what it needs is brought first. `keep`: see
    `plan.steps.Boot`."""
    environment, stock = maker.environment, maker.cargo
    qemu = await environment.programs.qemu(choice.accel, say)
    library, images = environment.library, blueprint.images
    artifacts = await library.artifacts(spec.image, images[spec.image])
    files = await stock.files(artifacts, say)
    cargo = []
    for key in spec.cargo:
        inner = await library.artifacts(key, images[key])
        cargo.append((inner, await stock.cargo(inner, say)))
    beside = await maker.beside(spec, blueprint, say)
    paths = environment.place.of(spec.path)
    plan = Launch(
        lab=environment.lab,
        spec=spec,
        paths=paths,
        accel=choice.accel,
        port=0,
        management_mac=environment.management_mac(spec),
        qemu=qemu.argv,
        version=qemu.version,
        kernel=launch.kernel_of(artifacts, files),
        drives=launch.drives_of(spec, paths, artifacts, cargo),
        cdroms=(*launch.cdroms_of(paths, artifacts, files), *(beside[key][0] for key in spec.cdroms)),
        keep=keep,
        generation=generation(environment.lab_keys.host_key(spec.path).public),
        switch=environment.place.switch if environment.wires else None,
    )
    if spec.machine.hardware.uefi or spec.machine.hardware.tpm:
        from nestlab.engines.qemu import firmware  # few machines have either

        files_there = firmware.FirmwareFiles(maker.host, environment.programs.firmware, environment.uploads)
        plan = await firmware.equipped(plan, files_there, artifacts, say)
    room = room_of(spec, choice.accel, by_kernel=plan.kernel is not None)
    words = container.compiler(spec, files, environment.lab_keys) if spec.machine.container else argv
    ready = spec.machine.ready if launch.answers_ssh(files) or not spec.machine.by_ssh else Ready("none")
    return Start(replace(plan, room=room), words, dict(qemu.env), spec.machine.image.user, ready)
