"""What people see, against golden files."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from golden_files import assert_golden
from nestlab.base.errors import LabError
from nestlab.base.events import Began, Ended, Failed, Finished, Said, Started
from nestlab.base.paint import Paint, elapsed, human, inked
from nestlab.base.proofs import Proof, Verdict
from nestlab.images.inventory import StoredImage
from nestlab.lab.blueprint import Blueprint, Nic, Spec
from nestlab.lab.model import GIB, MIB, Image, Machine, Segment, within
from nestlab.plan.steps import Boot, Build, Connect, Create, Observed, Plan, Remove, Seen
from nestlab.show import machine_table, render
from nestlab.show.render import Acceleration

NOW = 1_800_000_000.0


def spec(path: str, address: str = "", *, hypervisor: str | None = None, memory: int = 128 * MIB) -> Spec:
    machine = Machine(path.rpartition("/")[2], hypervisor, memory=memory)
    nics = (Nic("wire", "52:54:00:00:00:01", addresses=(f"{address}/24", "fd77::11/64")),) if address else ()
    return Spec(path, machine, nics, "10.90.0.0/24", "kvm" if hypervisor else "tiny", (), "d" * 40)


PAIR = Blueprint(
    "pair",
    (Segment("wire"),),
    (
        spec("hv1", "10.77.0.11", hypervisor="kvm", memory=GIB),
        spec("hv1/web", "10.77.0.12"),
        spec("hv1/db"),
        spec("hv2", "10.77.0.13", hypervisor="kvm", memory=GIB),
        spec("hv2/deep", hypervisor="kvm", memory=512 * MIB),
        spec("hv2/deep/leaf", "10.77.0.14"),
    ),
    MappingProxyType({"kvm": Image("kvm"), "tiny": Image("tiny", packages=("curl",))}),
)

SEEN = (
    Seen("hv1", "running", accel="tcg", pid=7, since=NOW - 123, memory=431 * MIB),
    Seen("hv1/web", "running", accel="kvm", pid=8, since=NOW - 70.4, memory=96 * MIB + 300),
    Seen("hv1/old", "stopped"),
    Seen("hv2", "died", why="its QEMU ended"),
    Seen("hv2/deep", "unknown", why="hv2, in which it runs, does not run"),
)
WORLD = Observed(MappingProxyType({seen.path: seen for seen in SEEN}), frozenset({"wire"}))

TODO = Plan(
    "pair",
    (
        Build("not built yet", image="kvm"),
        Connect("not there yet", segment="wire"),
        Remove("no longer in the lab file", machine="hv1/old"),
        Create("not there yet", machine="hv1"),
        Boot("not there yet", machine="hv1"),
        Boot("it died: its QEMU ended", machine="hv2"),
    ),
)

PROOFS = Verdict(
    "pair",
    (
        Proof("", 0, "/dev/kvm can be opened", None, "kvm_pvm", "guests at level 1 are emulated"),
        Proof("hv1", 1, "vmx or svm in /proc/cpuinfo", True, "svm"),
        Proof("hv1", 1, "a 64-bit guest reached its userland under KVM", False, "hung", "svm is shown, but cannot run"),
        Proof("hv1/web", 2, "query-kvm", True, "enabled"),
    ),
)


def test_the_tree_shows_wanted_and_seen_machines_nested() -> None:
    machines = machine_table.rows(PAIR, WORLD, NOW)
    assert_golden("render/tree.txt", machine_table.head("pair", machines) + "\n" + machine_table.table(machines))


def test_everything_inside_a_machine_stands_right_below_it() -> None:
    paths = [row.path for row in machine_table.rows(PAIR, WORLD, NOW)]
    assert paths == ["hv1", "hv1/web", "hv1/db", "hv1/old", "hv2", "hv2/deep", "hv2/deep/leaf"]
    assert all(within(path, "hv1") for path in paths[:4])


def test_machines_whose_outer_machine_nobody_knows_are_shown_all_the_same() -> None:
    lost = Observed(MappingProxyType({"gone/web": Seen("gone/web", "running")}))
    assert "web" in machine_table.table(machine_table.rows(None, lost, NOW))


def test_a_lab_without_machines_says_so() -> None:
    assert machine_table.table([]) == "no machines"


def test_colours_change_nothing_but_colours() -> None:
    machines = machine_table.rows(PAIR, WORLD, NOW)
    painted = inked(machine_table.table(machines, Paint(True)))
    assert "\x1b[32mrunning\x1b[0m" in painted
    for code in ("0", "1", "2", "31", "32", "33", "36"):
        painted = painted.replace(f"\x1b[{code}m", "")
    assert painted == machine_table.table(machines)


def test_status_data_is_in_seconds_and_bytes() -> None:
    first = machine_table.data("pair", machine_table.rows(PAIR, WORLD, NOW))["machines"][0]
    assert (first["path"], first["uptime"], first["resident"]) == ("hv1", 123.0, 431 * MIB)


def test_a_plan_gives_each_subject_one_line_with_its_reason() -> None:
    assert_golden("render/plan.txt", render.plan(TODO, PAIR))


def test_a_long_plan_is_cut_and_says_so() -> None:
    text = render.plan(TODO, PAIR, most=3)
    assert text.splitlines()[-1] == "  … and 3 more; `nestlab plan` shows them all"


def test_an_empty_plan_says_that_nothing_is_to_be_done() -> None:
    assert render.plan(Plan("pair")) == "pair: nothing to do; all is as wanted."


def test_proofs_are_a_table_with_reasons_where_they_fail() -> None:
    assert_golden("render/proofs.txt", render.verdict(PROOFS))


def test_a_verdict_without_proofs_is_no_proof() -> None:
    assert not Verdict("pair").ok
    assert render.sentence(Verdict("pair")) == "not proven: nothing could be tried"


def test_a_claim_that_decides_nothing_fails_nothing() -> None:
    assert Verdict("pair", (PROOFS.proofs[0], PROOFS.proofs[1])).ok


def test_machines_with_the_same_acceleration_share_a_line() -> None:
    slow = "emulated: about 20 times slower than hardware"
    text = render.accelerations(
        [
            Acceleration("hv1", "tcg", "the CPU shows no svm", slow),
            Acceleration("hv2", "tcg", "the CPU shows no svm", slow),
            Acceleration("hv1/web", "kvm", "kvm_amd on hv1 ran a guest"),
        ]
    )
    assert_golden("render/accelerations.txt", text)


def test_events_are_plain_lines() -> None:
    images = PAIR.images
    happened = [
        Began(0.0, verb="up", lab="pair", steps=("build:kvm", "boot:hv1")),
        Started(0.5, "build:kvm", why="not built yet"),
        Said(61.25, "build:kvm", text="installing the packages: 50 %"),
        Finished(90.0, "build:kvm", seconds=89.5),
        Started(90.0, "boot:hv1", "hv1", why="not there yet"),
        Failed(102.3, "boot:hv1", "hv1", what="hv1 did not come up: its kernel panicked"),
        Ended(102.4, ok=False, seconds=102.4, left=("boot:hv1",)),
    ]
    forced = Finished(63.0, "stop:hv1", "hv1", seconds=61.0, note="ended by force: it did not shut down within 60 s")
    said = render.event(forced, 0.0, images, width=10)
    assert said.endswith("stop: done in 61.0s: ended by force: it did not shut down within 60 s")
    lines = [render.event(each, 0.0, images, width=10) for each in happened]
    assert lines[0] == lines[-1] == ""
    assert_golden("render/events.txt", "\n".join(filter(None, lines)))


def test_the_last_line_counts_what_is_done_and_left() -> None:
    tally = render.Tally()
    tally.feed(Began(0.0, verb="up", lab="pair", steps=("a:1", "b:2", "c:3")))
    assert tally.line() == ""
    tally.feed(Ended(9.0, ok=False, seconds=9, left=("c:3",)))
    assert tally.line() == "not done: 2 steps in 9s, 1 left"
    tally.feed(Ended(9.0, seconds=135))
    assert tally.line() == "done: 3 steps in 2m 15s"
    tally.feed(Began(0.0, verb="up", lab="pair"))
    assert tally.line() == ""


def test_images_are_a_table() -> None:
    shelf = [
        StoredImage("kvm", "ab" * 32, 1_234_567_890, "6.12.48", ("pair", "three"), "kvm", "trixie"),
        StoredImage("mine", "ef" * 32, 1_000_000, "6.1.0", (), "debian", "bookworm", "curl, script"),
        StoredImage("tiny", "cd" * 32, 41_000_000),
    ]
    assert_golden("render/images.txt", render.images(shelf))
    assert "nestlab images build" in render.images([])


def test_an_image_is_called_by_its_name_in_the_lab_file_or_by_what_was_added_to_nestlabs_own() -> None:
    assert render.image_name("k", Image("kvm")) == "kvm"
    assert render.image_name("k", Image("kvm", script="true", name="mine")) == "mine"
    assert render.image_name("k", Image("kvm", script="true")) == "kvm+script"
    assert render.image_name("k", Image("debian", suite="sid", packages=("a", "b"))) == "debian+sid+a+…"
    assert render.image_name("k", Image(file="/disks/own.qcow2")) == "own.qcow2"
    assert render.image_name("ab" * 32, None) == "abababababab"


def test_an_error_is_what_then_what_to_do_then_details() -> None:
    text = render.error(LabError("hv1 panicked.", hint="See `nestlab logs hv1`.", detail="  | oops\n"))
    assert text == "error: hv1 panicked.\nSee `nestlab logs hv1`.\n  | oops"


def test_what_to_type_next_names_the_lab_where_there_are_several() -> None:
    assert "nestlab ssh hv1/web " in render.next_lines("pair", "hv1/web", "hv1", several=False)
    assert ".venv/bin/nestlab ssh hv1/web " in render.next_lines(
        "pair", "hv1/web", "hv1", several=False, program=".venv/bin/nestlab"
    )
    only = render.next_lines("pair", None, None, console="box", several=False)
    assert "nestlab console box " in only
    assert "ssh" not in only
    assert "nestlab ssh pair:hv1/web " in render.next_lines("pair", "hv1/web", "hv1", several=True)


def test_sizes_and_times_are_short() -> None:
    sizes = [0, 17, 1023, 1024, 1536, 431 * MIB, 1000 * MIB, GIB, 10 * GIB + 1, 1 << 41]
    assert [human(size) for size in sizes] == ["0", "17", "1K", "1K", "1.5K", "431M", "1G", "1G", "10G", "2T"]
    assert [elapsed(s) for s in (0, 8.9, 123, 3600, 18_600, 273_600)] == [
        "0s",
        "8s",
        "2m 03s",
        "1h 00m",
        "5h 10m",
        "3d 4h",
    ]


def test_the_width_of_names_fits_the_plan() -> None:
    assert render.width_of(TODO, PAIR) == len("segment wire")
    assert render.width_of(Plan("pair"), None) == 0
    assert render.width_of(replace(TODO, steps=(Boot("x", machine="a/" * 30 + "b"),)), None) == 28
