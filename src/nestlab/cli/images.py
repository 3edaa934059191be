"""`nestlab images` and `nestlab gc`: what is kept on this machine, and what no lab uses any more."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.paint import human
from nestlab.cli import complete
from nestlab.cli.common import home, lab_named, meant, paint, print_json, site
from nestlab.cli.exit_status import agreed, guarded, out, run, say, show
from nestlab.cli.narrow_help import FittedTyper
from nestlab.cli.options import Debug, Json, Yes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nestlab.install.inside import Inside
    from nestlab.lab.model import Image
    from nestlab.lab.places import Pve

KEPT = "nothing was removed"

images = FittedTyper(
    help="The images that machines boot: list, build ahead, remove.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@images.command("ls")
@guarded
def images_ls(as_json: Json = False, debug: Debug = False) -> int | None:
    """List the images that were built or downloaded, with the labs that need them."""
    from nestlab.images import inventory
    from nestlab.show import render

    found = inventory.shelved(home())
    if as_json:
        print_json({"images": [asdict(each) for each in found]})
    else:
        show(render.images(found, paint()))
    return None


Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME|FILE]...",
        help="kvm, debian, tiny, or a lab file (none: all).",
        autocompletion=complete.images_to_build,
    ),
]


In = Annotated[
    str,
    typer.Option(
        "--in",
        metavar="MACHINE",
        help="A hypervisor that runs: installers run inside it.",
        autocompletion=complete.machines,
    ),
]


@images.command("build")
@guarded
def images_build(words: Names = None, inside: In = "", as_json: Json = False, debug: Debug = False) -> int | None:
    """Build images now rather than in `up`. Built ones stay as they are.

    \b
    Examples:
      nestlab images build kvm
      nestlab images build office.yaml
      nestlab images build office.yaml --in pair:hv1    installers run inside hv1
    """
    from nestlab.images import inventory

    wanted = inventory.to_build(words or (), os.environ)
    if not inside:
        return run(_build(wanted, as_json=as_json))
    if not any(image.install for image in wanted.values()):
        what = f"None of these images is installed, and --in {inside} says where installers run."
        raise LabError(what, hint="Name a lab file that has images with `install:`, or leave --in out.")
    return run(_build_inside(wanted, inside, as_json=as_json))


async def _build_inside(wanted: Mapping[str, Image], word: str, *, as_json: bool) -> None:
    from nestlab.cli.machines import the_one
    from nestlab.verbs import install_inside
    from nestlab.verbs import session as verbs

    found = meant([word])
    async with verbs.looking(site(), name=lab_named(found)) as session:
        inside = await install_inside.inside(session, the_one(session, found))
        await _build(wanted, as_json=as_json, inside=inside)


async def _build(wanted: Mapping[str, Image], *, as_json: bool, inside: Inside | None = None) -> None:
    from nestlab import install
    from nestlab.images import inventory, system_packages
    from nestlab.images.image_files import Cache
    from nestlab.lab.image_titles import title_of
    from nestlab.show import live
    from nestlab.verbs import unknown_packages

    there, here = Cache(home().cache).present(), site()
    missing = [key for key in wanted if key not in there]
    needs = here.needs() if any(not wanted[key].foreign for key in missing) else ()
    if needs:
        raise system_packages.lacking(needs, system_packages.release_here(), root=os.geteuid() == 0)
    await unknown_packages.learn(here, [wanted[key] for key in missing], say)
    unknown_packages.check((wanted[key] for key in missing), here.home.cache)
    make = partial(install.make, inside=inside)
    if as_json:
        await inventory.build(home(), wanted, live.as_json(sys.stdout), install=make)
        return
    async with live.showing(sys.stderr, wanted, width=14, paint=paint(sys.stderr)) as emit:
        await inventory.build(home(), wanted, emit, install=make)
    for key, image in wanted.items():
        out(f"{title_of(image)}  {key[:12]}  {'built' if key in missing else 'was built already'}")


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[LAB|FILE|URL]...",
        help="Labs or lab files (none: the lab here), or URLs.",
        autocompletion=complete.labs_and_files,
    ),
]
Sha256 = Annotated[str, typer.Option("--sha256", metavar="DIGITS", help="What a URL's SHA-256 must be.")]
Sha512 = Annotated[str, typer.Option("--sha512", metavar="DIGITS", help="What its SHA-512 must be.")]
Sums = Annotated[str, typer.Option("--sums", metavar="URL|FILE", help="A checksum file that names it.")]
SignedBy = Annotated[str, typer.Option("--signed-by", metavar="FILE", help="Keys, one of which signed that.")]
Format = Annotated[str, typer.Option("--format", metavar="FORMAT", help="What a URL is: qcow2, raw, iso, vmdk, …")]
Update = Annotated[bool, typer.Option("--update", help="Read checksum files again that were read before.")]


@images.command("pull")
@guarded
def images_pull(
    words: Sources = None,
    sha256: Sha256 = "",
    sha512: Sha512 = "",
    sums: Sums = "",
    signed_by: SignedBy = "",
    form: Format = "",
    update: Update = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Download the images that labs name by `url:` now rather than in `up`. Those that are there stay as they are.

    \b
    Examples:
      nestlab images pull lab.yaml
      nestlab images pull --update mylab      what its vendors publish now
      nestlab images pull --sha256 0f3c… https://example.org/disk.qcow2
    """
    from nestlab.images import pull

    given = {"sha256": sha256, "sha512": sha512, "sums": sums, "signed-by": signed_by, "format": form}
    options = {name: value for name, value in given.items() if value}
    if not words:
        found = meant(None)
        words = [str(found.file) if found.file is not None else found.lab]
    wanted = pull.meant(home(), words, options, os.environ)
    return run(_pull(wanted, update=update, as_json=as_json))


async def _pull(images: list[Image], *, update: bool, as_json: bool) -> None:
    from nestlab.images import downloads, inventory, pull
    from nestlab.lab.image_titles import title_of
    from nestlab.show import live

    wanted = await pull.settled(home(), images, say, update=update)
    missing = [key for key in wanted.images if downloads.load(key, home().cache) is None]
    if as_json:
        await inventory.build(home(), wanted.images, live.as_json(sys.stdout), "pull")
        return
    for each in wanted.news:
        say(f"note: {title_of(each.image)} is another one now; `nestlab plan` shows what that changes.")
    async with live.showing(sys.stderr, wanted.images, width=14, paint=paint(sys.stderr)) as emit:
        await inventory.build(home(), wanted.images, emit, "pull")
    for key, image in wanted.images.items():
        out(f"{title_of(image)}  {key[:12]}  {'downloaded' if key in missing else 'was there already'}")


Chosen = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME|DIGEST...", help="Names, or the start of digests.", autocompletion=complete.built_images
    ),
]


@images.command("rm")
@guarded
def images_rm(words: Chosen, debug: Debug = False) -> int | None:
    """Remove images that no lab needs."""
    from nestlab.images import inventory

    for each in inventory.chosen(home(), words):
        inventory.remove(home(), each)
        out(f"removed {each.name} {each.digest[:12]}, {human(each.size)}")
    return None


On = Annotated[
    str, typer.Option("--on", metavar="ADDRESS|FILE|LAB", help="Those on a Proxmox VE or ssh://HOST, not this one's.")
]


@images.command("gc")
@guarded
def images_gc(on: On = "", yes: Yes = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Remove all that no lab needs: images, superseded packages, older QEMUs of nestlab's own, and what killed builds
    left. Shows it first.

    \b
    Examples:
      nestlab images gc
      nestlab images gc --on pve://pve1.example.org    templates and uploads there
      nestlab images gc --on ssh://lab@server          files that no lab there uses
    """
    from nestlab.images import inventory
    from nestlab.show import render

    if on:
        from nestlab.cli.proxmox import meant_by

        if on.startswith("ssh://"):
            return run(_gc_by_ssh(on, yes=yes))
        there = meant_by(on)
        return run(_gc_there(there.on, yes=yes, named=there.named))
    found = inventory.unused(home())
    if as_json:
        rows = [{"what": each.what, "bytes": each.size, "paths": [str(path) for path in each.paths]} for each in found]
        print_json({"unused": rows})
        if not yes:
            return None
    else:
        show(render.unused(found, paint()))
    if not found or not agreed(yes, f"Remove all this, {human(sum(each.size for each in found))}?", KEPT):
        return None
    freed = human(inventory.collect(home(), found))
    say(f"freed {freed}") if as_json else out(f"freed {freed}")
    return None


async def _gc_there(on: Pve, *, yes: bool, named: bool) -> int | None:
    """Templates and uploads that no machine in the pool was made from, and no lab of this user needs."""
    from nestlab.images import inventory
    from nestlab.proxmox import platform

    async with platform.stocked(on, home(), named=named) as stock:
        found = await stock.unused(inventory.used(home()))
        for each in found:
            machines = ", ".join(f"template {template.vmid}" for template in each.templates)
            files = f"{len(each.files)} uploaded files" if each.files else ""
            name = f"image {each.key[:12]}" if each.key else "what nobody finished"
            out(f"{name}: {', '.join(part for part in (machines, files) if part)}")
        if not found:
            out(f"every image on {on.address} is needed")
            return None
        if not agreed(yes, f"Remove these {len(found)} from {on.address}?", KEPT):
            return None
        for each in found:
            await stock.remove(each)
    out(f"removed {len(found)}")
    return None


async def _gc_by_ssh(address: str, *, yes: bool) -> int | None:
    """What no lab on a host uses, of this user or another who shares that account."""
    from nestlab.cli.exit_status import answered, on_terminal
    from nestlab.engines.ssh_host import unused
    from nestlab.hosts import ssh

    host = ssh.at(address, ask=answered if on_terminal() else None, of_lab=True)
    try:
        found = await unused.unused(host)
        for each in found:
            out(f"{each.name}: {human(each.size)}")
        if not found:
            out(f"all that is kept on {address} is used")
            return None
        if not agreed(yes, f"Remove these {len(found)} from {address}?", KEPT):
            return None
        await unused.remove(host, found)
    finally:
        await host.close()
    out(f"freed {human(sum(each.size for each in found))}")
    return None


@guarded
def gc(yes: Yes = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Remove what no lab uses any more: directories, half-written files, stale processes. Shows it first."""
    from nestlab.verbs import leftovers

    found = leftovers.find(home())
    if as_json:
        rows = [{"what": each.what, "why": each.why, "pid": each.pid or None} for each in found]
        print_json({"leftovers": rows})
        if not yes:
            return None
    else:
        out("\n".join(f"{each.what}: {each.why}" for each in found) or "nothing is left over")
    if not found or not agreed(yes, f"Remove these {len(found)}?", KEPT):
        return None
    for each in found:
        leftovers.remove(each)
    say(f"removed {len(found)}")
    return None
