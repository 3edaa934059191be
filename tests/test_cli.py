"""The command line: what is printed where, and with which status it ends. In-process on a pretended world; as a
process of its own where signals, pipes and start-up matter."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nestlab.cli import complete
from nestlab.cli.app import app
from nestlab.home import labs
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Result as Ran
from nestlab.lab.model import GIB
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import local
from nestlab.verbs.site import Site

PAIR = """
lab: pair
segments: {wire: }
machines:
  hv1: &hv
    hypervisor: kvm
    memory: 1G
    segments: [wire]
    machines:
      web: {image: tiny, memory: 128M, segments: [wire]}
  hv2: *hv
"""
PATHS = ["hv1", "hv1/web", "hv2", "hv2/web"]


class Console:
    """The command line with a home and a world of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = FakeWorld(Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB))
        self.world.answer = answer
        self.home = Home(folder / "state", folder / "cache")
        self.env = {"NESTLAB_HOME": str(self.home.state), "NESTLAB_CACHE": str(self.home.cache), "HOME": str(folder)}
        self.file = self.lab("pair")

    def lab(self, name: str) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(PAIR.replace("lab: pair", f"lab: {name}"))
        return path

    def site(self, home: Home, consent: object = None) -> Site:
        return Site(home, self.world.host, self.world.engine, {"kvm": self.world.engine}, needs=lambda: ())

    def run(self, *words: str, status: int = 0, input: str = "") -> Result:
        result = CliRunner(env=self.env).invoke(app, list(words), input=input)
        assert result.exit_code == status, f"{words}: {result.exit_code}\n{result.output}\n{result.exception!r}"
        return result

    def state(self, lab: str, path: str) -> str:
        return self.world.machines[lab, path].state

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def process(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env}
        argv = [sys.executable, "-m", "nestlab", *words]
        return subprocess.run(argv, env=env, capture_output=True, text=True, input="", cwd=self.folder, check=False)


def answer(path: str, argv: Sequence[str]) -> Ran | None:
    """Every machine is 64-bit and reaches every address."""
    if argv[:2] == ("sh", "-c") and "ping" in argv:
        reached = "".join(f"y {address}\n" for address in argv[4:])
        return Ran(tuple(argv), 0, f"{reached}x86_64\n".encode(), b"")
    if argv[0] == "false":
        return Ran(tuple(argv), 3 if path == "hv1" else 7, b"", b"no\n")
    return Ran(tuple(argv), 0, f"{path} says {' '.join(argv)}\n".encode(), b"")


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    made = Console(tmp_path)
    monkeypatch.setattr(local, "site", made.site)
    monkeypatch.chdir(tmp_path)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    yield made
    assert made.world.open == 0, "hosts or engines were left open"


def test_up_says_what_it_does_why_and_what_to_type_next(console: Console) -> None:
    result = console.run("up", "pair.yaml", "--no-verify")
    assert re.search(r"hv1/web +create, boot +not there yet", result.stdout)
    assert "hv1, hv2 are emulated (KVM off)" in result.stdout
    assert "pair: 4 of 4 machines running" in result.stdout
    assert "nestlab ssh hv1/web" in result.stdout
    assert re.search(r"\ds +hv1/web +boot: done in", result.stderr)


def test_up_again_says_that_nothing_is_to_be_done(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    assert "nothing to do" in console.run("up", "pair", "--no-verify").stdout
    assert console.json("plan", "pair.yaml")["steps"] == []


def test_up_with_json_prints_one_event_a_line(console: Console) -> None:
    lines = console.run("up", "pair.yaml", "--no-verify", "--json").stdout.splitlines()
    kinds = [json.loads(line)["event"] for line in lines]
    assert kinds[:2] == ["plan", "began"]
    assert kinds[-2:] == ["ended", "machines"]
    assert kinds.count("started") == kinds.count("finished")


def test_what_fails_is_told_with_what_to_do_and_status_2(console: Console) -> None:
    console.world.refuse("boot:hv2")
    result = console.run("up", "pair.yaml", "--no-verify", status=2)
    assert "error: boot hv2 failed: The fake world refuses boot:hv2." in result.stderr
    assert "`nestlab up` again goes on from here" in result.stderr
    assert "Traceback" not in result.output


def test_plan_gives_reasons_and_changes_nothing(console: Console) -> None:
    result = console.run("plan", "pair.yaml")
    assert "not there yet" in result.stdout
    assert "hv1/web, hv2/web run on KVM or are emulated" in result.stdout
    assert not console.home.labs()
    data = console.json("plan", "pair.yaml")
    assert data["lab"] == "pair"
    assert {step["do"] for step in data["steps"]} == {"build", "connect", "create", "boot"}
    assert {each["accel"] for each in data["acceleration"]} == {"tcg", ""}


def test_stop_start_and_down_take_a_lab_or_machines(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    console.run("stop", "hv1/web")
    assert console.state("pair", "hv1/web") == "stopped"
    console.run("start", "pair", "hv1/web")
    assert console.state("pair", "hv1/web") == "running"
    assert "pair: nothing of it is left" in console.run("down", "pair").stdout
    assert console.world.machines == {}
    assert console.json("ls") == {"labs": []}


def test_guests_of_a_stopped_hypervisor_are_stopped_and_started_as_they_are(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    text = console.run("stop", "hv1").stdout
    assert re.search(r"web +stopped", text)
    assert "hv1/web: hv1 is stopped" in text
    started = console.run("start", "pair").stdout
    assert re.search(r"hv1/web +boot +hv1, in which it runs, is started", started)
    assert "create" not in started


def test_verify_ends_with_status_2_when_a_claim_fails(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    result = console.run("verify", status=2)
    assert re.search(r"FAIL +cpu +neither vmx nor svm", result.stdout)
    assert "not proven" in result.stdout
    data = json.loads(console.run("verify", "--json", status=2).stdout)
    assert data["ok"] is False


def test_exec_prefixes_lines_of_several_machines_and_ends_with_the_highest_status(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    result = console.run("exec", "hv1,hv2/web", "--json", "--", "echo", "--option")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {row["machine"]: row["stdout"] for row in rows} == {
        "hv1": "hv1 says echo --option\n",
        "hv2/web": "hv2/web says echo --option\n",
    }
    console.run("exec", "--on", "hv*", "--json", "--", "false", status=7)
    assert console.world.commands[-1][1] == ("false",)


def test_exec_without_a_command_or_machine_says_what_is_missing(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    assert "There is no command" in console.run("exec", "hv1", status=2).stderr
    assert "has no machine hv9" in console.run("exec", "hv9", "--", "true", status=2).stderr


def test_a_command_follows_the_machine_as_people_type_it(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    for words in (
        ("--json", "hv1", "ls", "-la", "--json"),
        ("pair", "hv1", "--json", "ls", "-la", "--json"),
        ("--json", "hv1", "--", "ls", "-la", "--json"),
    ):
        [row] = [json.loads(line) for line in console.run("exec", *words).stdout.splitlines()]
        assert row["stdout"] == "hv1 says ls -la --json\n"
    both = console.run("exec", "--json", "hv1", "hv2", "--", "ls").stdout.splitlines()
    assert sorted(json.loads(line)["machine"] for line in both) == ["hv1", "hv2"]
    assert "not reached by ssh" in console.run("ssh", "hv1", "ls", "-la", status=2).stderr
    console.lab("other").write_text("lab: other\nmachines: {single: {image: tiny}}\n")
    console.run("up", "other.yaml", "--no-verify")
    assert json.loads(console.run("exec", "--json", "single", "ls").stdout)["machine"] == "single"


@pytest.mark.parametrize(
    "words", [["--help"], ["doctor", "--help"], ["pve", "setup", "--help"], ["up", "no such.yaml"]]
)
def test_help_and_errors_fit_a_narrow_terminal(console: Console, words: list[str]) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    env = {key: value for key, value in {**os.environ, **console.env}.items() if key not in ("COLUMNS", "NO_COLOR")}
    argv = [sys.executable, "-m", "nestlab", *words]
    with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=console.folder):
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # a terminal without a writer has no end but an error
            while data := os.read(ours, 65536):
                said += data
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).splitlines()
    assert len(lines) > 1
    assert [line for line in lines if len(line) > 60 and len(line.split()) > 1] == []


def test_status_of_some_machines_shows_those(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    rows = console.json("status", "pair", "hv1", "--deep")["machines"]
    assert [row["path"] for row in rows] == ["hv1", "hv1/web"]
    rows = console.json("status", "pair", "hv*/web", "--deep")["machines"]
    assert [row["path"] for row in rows] == ["hv1/web", "hv2/web"]
    table = console.run("status", "pair", "hv2/web", "--deep").stdout
    assert "hv2" in table
    assert "hv1" not in table
    assert "has no machine hv9" in console.run("status", "pair", "hv9", "--deep", status=2).stderr


def test_down_of_a_lab_that_is_not_there_ends_well_with_a_word(console: Console) -> None:
    assert "There is no lab" in console.run("down").stderr
    assert "There is no lab pair: nothing" in console.run("down", "pair.yaml", "--yes").stderr
    assert "There is no lab pair: nothing" in console.run("down", "pair", "--yes").stderr
    console.run("up", "pair.yaml", "--no-verify")
    assert "There is no lab other: nothing" in console.run("down", "other", "--yes").stderr
    assert "There is no lab other: nothing" in console.run("down", "other:hv1", "--yes").stderr
    assert "no machine hv3" in console.run("down", "hv3", "--yes", status=2).stderr
    assert "no machine hv1/db" in console.run("down", "hv1/db", "--yes", status=2).stderr
    assert console.state("pair", "hv1") == "running"
    console.run("down", "pair", "--yes")
    assert "There is no lab pair: nothing" in console.run("down", "pair", "--yes").stderr


def test_logs_tell_that_a_machine_never_had_a_console(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    console.world.answer = None
    assert "has no console yet" in console.run("logs", "hv1/web", status=2).stderr


def test_several_labs_must_be_told_apart(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    console.lab("other")
    assert "nestlab ssh other:hv1/web" in console.run("up", "other.yaml", "--no-verify").stdout
    assert "Several labs exist." in console.run("verify", status=2).stderr
    assert "LAB:hv1" in console.run("stop", "hv1", status=2).stderr
    console.run("stop", "other:hv1")
    assert console.state("other", "hv1") == "stopped"
    assert console.state("pair", "hv1") == "running"
    assert [each["lab"] for each in console.json("ls")["labs"]] == ["other", "pair"]


def test_validate_shows_every_mistake_with_its_place(console: Console) -> None:
    assert "pair.yaml: ok: lab pair, 4 machines, 1 segment" in console.run("validate", "pair.yaml").stdout
    console.file.write_text(PAIR.replace("memory: 1G", 'cpus: "4"').replace("image: tiny", "imge: tiny"))
    result = console.run("validate", "pair.yaml", status=2)
    assert re.search(r"pair.yaml:\d+:\d+: machines\.hv1\.cpus", result.stderr)
    mistakes = json.loads(console.run("validate", "pair.yaml", "--json", status=2).stdout)["mistakes"]
    assert {mistake["file"] for mistake in mistakes} == {"pair.yaml"}
    assert len(mistakes) >= 2


def test_validate_takes_the_lab_file_here_or_that_of_a_lab(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    assert "ok: lab pair" in console.run("validate", "pair").stdout
    console.file.rename(console.file.with_name("lab.yaml"))
    assert "ok: lab pair" in console.run("validate").stdout
    assert "There is no lab other" in console.run("validate", "other", status=2).stderr
    large = console.run("validate", "--set", "machines.hv1.memory=9000G").stdout
    assert "note: " in large
    assert "9000G is more than the" in large


def test_the_schema_is_json(console: Console) -> None:
    assert json.loads(console.run("schema").stdout)["$schema"].startswith("https://json-schema.org/")


def test_words_complete_to_labs_and_machines(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    assert complete.machines("") == PATHS
    assert complete.machines("hv1/") == ["hv1/web"]
    assert complete.machines("pair:hv2") == ["pair:hv2", "pair:hv2/web"]
    assert complete.labs_and_machines("pa") == ["pair.yaml", "pair"]
    assert complete.machines_or_files("hv1/") == ["hv1/web:"]
    console.run("up", str(console.lab("other")), "--no-verify")
    assert complete.machines("o") == ["other:hv1", "other:hv1/web", "other:hv2", "other:hv2/web"]


def test_completion_says_nothing_where_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NESTLAB_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    assert complete.labs_and_machines("") == []


def test_a_bug_is_status_1_and_leaves_a_report_for_the_user_alone(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(home: Home, **_: object) -> Site:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(local, "site", broken)
    result = console.run("plan", "pair.yaml", status=1)
    assert "nestlab failed: ZeroDivisionError: oops" in result.stderr
    assert "Traceback" not in result.output
    (report,) = console.home.state.glob("crash-*.txt")
    assert report.stat().st_mode & 0o777 == 0o600
    assert "ZeroDivisionError: oops" in report.read_text()
    assert "Traceback" in console.run("plan", "pair.yaml", "--debug", status=1).stderr


def test_cp_wants_a_machine_on_one_side_at_least(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    error = console.run("cp", "pair.yaml", "/tmp/x", status=2).stderr
    assert "No machine is named: pair.yaml is here, and so is /tmp/x." in error
    (console.folder / "mix").mkdir()
    error = console.run("cp", "hv1:/a", "pair.yaml", "mix", status=2).stderr
    assert "No machine is named: pair.yaml is here, and so is mix." in error
    assert not any((console.folder / "mix").iterdir())
    assert "hv9 is no machine" in console.run("cp", "hv9:/a", ".", status=2).stderr


def test_cp_takes_the_options_of_cp_and_says_what_it_came_to(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    (console.folder / "notes").write_text("notes")
    for options in ((), ("-r",), ("-a",), ("-ra",), ("--recursive", "--archive")):
        said = console.run("cp", *options, "notes", "hv1/web:/root/")
        assert said.stderr.startswith("notes -> hv1/web:/root/: 5 bytes in ")
    [done] = json.loads(console.run("cp", "notes", "hv1/web:/root/", "--json").stdout)["copied"]
    assert (done["from"], done["to"], done["bytes"], done["by"]) == ("notes", "hv1/web:/root/", 5, "ssh")


def test_cp_of_two_sources_of_one_name_copies_none(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    error = console.run("cp", "hv1:/etc/hostname", "hv2:/etc/hostname", ".", status=2).stderr
    assert "Two of these are called hostname" in error
    assert not (console.folder / "hostname").exists()


def test_cp_of_several_sources_wants_a_directory_and_else_copies_none(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    console.world.commands.clear()
    (console.folder / "notes").write_text("notes")
    for target, *sources in (
        ("new", "hv1:/a", "hv2:/b"),
        ("hv1:/new", "notes", "pair.yaml"),
        ("notes", "hv1:/a", "hv1:/b"),
    ):
        error = console.run("cp", *sources, target, status=2).stderr
        assert f"{target} is no directory" in error
    assert not (console.folder / "new").exists()
    assert (console.folder / "notes").read_text() == "notes"
    assert all("tar" not in word for _, argv in console.world.commands for word in argv)


def test_status_of_a_lab_file_that_was_never_brought_up_says_how(console: Console) -> None:
    error = console.run("status", "pair.yaml", status=2).stderr
    assert "Lab pair is not there." in error
    assert "nestlab up" in error


def test_a_lab_is_known_by_the_file_it_was_made_from(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    assert labs.lab_of(console.home, console.file) == "pair"
    console.run("stop", "pair.yaml", "hv2")
    assert console.state("pair", "hv2") == "stopped"


def test_help_version_and_usage_errors_as_a_process(console: Console) -> None:
    told = console.process("--help")
    assert told.returncode == 0
    assert "nestlab up examples/pair.yaml" in told.stdout
    assert console.process("--version").stdout.startswith("nestlab ")
    wrong = console.process("upp")
    assert wrong.returncode == 2
    assert "No such command" in wrong.stderr
    mistaken = console.process("validate", "nowhere.yaml")
    assert mistaken.returncode == 2
    assert mistaken.stderr.startswith("error: nowhere.yaml:1:1: ")
    assert console.process("verify").stderr.startswith("error: There is no lab")


def test_the_doctor_walks_no_other_lab_than_the_one_named(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    for word in ("nolab", "hv1"):
        said = console.run("doctor", "--all", word, status=2).stderr
        assert said.startswith(f"error: There is no lab {word}.")


def test_a_check_named_without_fix_is_told_to_be_one(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    for words, place in ((["hv1", "nested"], "hv1 "), (["nested"], ""), (["ssh://x", "nested"], "ssh://x ")):
        said = console.run("doctor", *words, status=2).stderr
        assert "`nested` is a check, and checks go with --fix." in said
        assert f"nestlab doctor {place}--fix nested" in said
    assert "Without --fix all checks are made.\n" in console.run("doctor", "security", status=2).stderr


def test_help_and_status_import_nothing_heavy(console: Console) -> None:
    code = (
        "import os, sys\nfrom nestlab.cli import main\nos._exit = lambda status: None\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'asyncio', 'asyncssh', 'pydantic', 'ruamel', 'rich', 'qemu'} & set(sys.modules)\n"
        "print('heavy:', *sorted(heavy))\n"
    )
    (console.home.state / "labs" / "pair").mkdir(parents=True, mode=0o700)
    for words in (["--help"], ["status", "pair"], ["status", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env={**os.environ, **console.env}, capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "heavy:", (words, done.stdout[-300:], done.stderr)


HELD = """
import sys
from nestlab.verbs import local, session, site
from nestlab.cli import main
from nestlab.testing.fake_engine import FakeWorld
from nestlab.hosts.facts import Facts
world = FakeWorld(Facts(cpus=4, memory=1 << 36, memory_available=1 << 36))
world.hold("boot:hv2")
local.site = lambda home, **_: site.Site(home, world.host, world.engine, {"kvm": world.engine}, needs=lambda: ())
if sys.argv[1] == "deaf":
    import nestlab.verbs.apply
    async def deaf(*args, **kwargs):
        import asyncio
        print("boot: held", file=sys.stderr, flush=True)
        await asyncio.sleep(600)
    nestlab.verbs.apply.apply = deaf
sys.argv[1:] = ["up", "pair.yaml", "--no-verify"]
main()
"""


def test_ctrl_c_ends_a_run_cleanly_and_says_how_to_go_on(console: Console) -> None:
    with interrupted(console, "once", "hv1/web +boot: done") as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait() == 130
    assert "stopping; once more ends it at once" in told
    assert re.search(r"error: Interrupted\. Done: .*boot hv1/web.*Left: .*boot hv2", told)
    assert "goes on from here" in told
    assert "Traceback" not in told


def test_ctrl_c_twice_ends_nestlab_at_once(console: Console) -> None:
    with interrupted(console, "deaf", "boot: held") as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert any("once more ends it" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert "ended at once" in process.stderr.read()
        assert process.wait() == 130


def test_a_hangup_that_nohup_ignores_stays_ignored(console: Console) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupted(console, "once", "hv1/web +boot: done") as process:
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def interrupted(console: Console, how: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """An `up` of a process of its own, once its stderr said `until`."""
    env = {**os.environ, **console.env}
    argv = [sys.executable, "-c", HELD, how]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=env, stdout=pipe, stderr=pipe, text=True, cwd=console.folder) as process:
        assert process.stderr is not None
        assert any(re.search(until, line) for line in process.stderr)
        try:
            yield process
        finally:
            process.kill()


def test_a_reader_that_leaves_is_no_error(console: Console) -> None:
    env = {**os.environ, **console.env}
    with subprocess.Popen(
        [sys.executable, "-m", "nestlab", "schema"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_lab_of_another_file_is_not_replaced_by_one_of_its_name(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    other = console.folder / "other"
    other.mkdir()
    (other / "lab.yaml").write_text("lab: pair\nmachines: {z: {image: tiny, memory: 128M}}\n")
    for words in (["up", "other/lab.yaml", "--no-verify"], ["plan", "other/lab.yaml"], ["down", "other/lab.yaml"]):
        said = console.run(*words, status=2).stderr.replace("\n", " ")
        assert f"Lab pair was made from {console.file}, and {other}/lab.yaml is another file." in said
    assert [console.state("pair", path) for path in PATHS] == ["running"] * 4
    copy = other / "copy.yaml"
    copy.write_text(console.file.read_text())
    assert "--adopt" in console.run("up", "other/copy.yaml", "--no-verify", status=2).stderr, "the same text, too"
    assert "nothing to do" in console.run("plan", "other/copy.yaml", "--adopt").stdout
    console.run("up", "other/copy.yaml", "--no-verify", "--adopt")
    console.run("up", "pair.yaml", "--no-verify", status=2)
    copy.rename(copy.with_name("moved.yaml"))
    copy.with_name("moved.yaml").write_text("lab: pair\nmachines: {z: {image: tiny, memory: 128M}}\n")
    console.run("up", "other/moved.yaml", "--no-verify", "--replace")  # the lab's file has moved
    assert console.state("pair", "z") == "running"


def test_a_change_keeps_what_is_in_a_machine_and_asks_before_it_deletes_it(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    files = console.world.machines["pair", "hv2"].files
    files["/root/kept"] = b"precious" * 1000
    result = console.run("up", "pair.yaml", "--no-verify", "--set", "machines.hv2.memory=3G")
    assert re.search(r"hv2 +stop, update, boot +restart: memory \S+ -> 3G; its disk is kept", result.stdout)
    assert console.world.machines["pair", "hv2"].files is files
    bigger = ["--set", "machines.hv2.memory=3G", "--set", "machines.hv2.image={from: kvm, packages: [curl]}"]
    text = console.run("plan", "pair.yaml", *bigger).stdout
    assert "hv2" in text
    assert re.search(r"anew: .*; its disk with 7.8K written is deleted", text)
    changes = {each["path"]: each for each in console.json("plan", "pair.yaml", *bigger)["changes"]}
    assert (changes["hv2"]["way"], changes["hv2"]["deletes"], changes["hv2"]["written"]) == ("anew", True, 8000)
    refused = console.run("up", "pair.yaml", "--no-verify", *bigger, status=2)
    assert "This would delete what is on hv2, hv2/web; nothing was changed." in refused.stderr
    assert "`--replace` agrees" in refused.stderr
    assert console.world.machines["pair", "hv2"].files is files
    console.run("up", "pair.yaml", "--no-verify", "--replace", *bigger)
    assert console.world.machines["pair", "hv2"].files == {}


def test_a_machine_that_left_the_file_is_deleted_only_when_that_is_agreed(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    console.file.write_text(console.file.read_text().replace("  hv2:", "  other:"))
    assert "hv2" in console.run("up", "pair.yaml", "--no-verify", status=2).stderr
    assert console.state("pair", "hv2") == "running"
    assert ("pair", "other") not in console.world.machines, "nothing was done"
    console.run("up", "pair.yaml", "--no-verify", "--replace")
    assert ("pair", "hv2") not in console.world.machines


def test_restart_keeps_a_disk_and_recreate_deletes_it_on_purpose(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    machine = console.world.machines["pair", "hv1"]
    machine.files["/root/kept"] = b"precious"
    done = len(console.world.done)
    console.run("restart", "hv1")
    steps = [step for _, step in console.world.done[done:]]
    assert steps == ["stop:hv1/web", "stop:hv1", "boot:hv1", "boot:hv1/web"]
    assert console.world.machines["pair", "hv1"] is machine
    assert "Name the machines" in console.run("recreate", "pair", status=2).stderr
    assert "`--yes` agrees" in console.run("recreate", "hv1", status=2).stderr
    assert console.world.machines["pair", "hv1"] is machine
    address = console.json("status", "pair")["machines"][0]["addresses"]
    console.run("recreate", "hv1", "--yes")
    assert console.world.machines["pair", "hv1"].files == {}
    assert [console.state("pair", path) for path in PATHS] == ["running"] * 4
    assert console.json("status", "pair")["machines"][0]["addresses"] == address


def test_down_says_what_is_deleted_with_sizes(console: Console) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    console.world.machines["pair", "hv1"].files["/root/kept"] = b"precious" * 1000
    assert re.search(r"hv1 +remove .*its disk with 7.8K written is deleted", console.run("down", "pair").stdout)


def test_what_to_type_next_names_the_lab_where_another_one_s_file_is(console: Console) -> None:
    (console.folder / "lab.yaml").write_text("lab: other\nmachines: {z: {image: tiny}}\n")
    assert "nestlab ssh pair:hv1/web" in console.run("up", "pair.yaml", "--no-verify").stdout


def test_a_current_directory_that_is_gone_has_no_lab_file(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    gone = console.folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "hv1" in console.run("status").stdout
    assert "hv1" in console.run("status", "pair").stdout
    console.run("up", "nothing.yaml", status=2)


@pytest.mark.parametrize(("keys", "status"), [(b"\x03", 130), (b"\x04", 2), (b"n\r", 2), (b"what\r\x04", 2)])
def test_a_question_that_is_not_answered_changes_nothing(console: Console, keys: bytes, status: int) -> None:
    console.run("up", "pair.yaml", "--no-verify")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "nestlab", "down", "pair"], {**os.environ, **console.env})
    said = b""
    while b"[y/N]" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, keys)
    with suppress(OSError):  # so ends a terminal
        while True:
            # What was typed before the program had the terminal as it wants it can be lost: nobody types so fast.
            if not select.select([terminal], [], [], 60)[0]:
                os.write(terminal, keys)
            elif more := os.read(terminal, 4096):
                said += more
            else:
                break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status, said
    assert b"othing was changed" in said
    assert b"bug" not in said


def test_a_cache_that_cannot_be_used_is_no_bug(console: Console) -> None:
    console.env["NESTLAB_CACHE"] = "/dev/null"
    said = console.process("images", "build", "tiny")
    assert said.returncode == 2
    assert "error: /dev/null/images cannot be used: Not a directory.\n" in said.stderr
    assert "NESTLAB_CACHE names another place" in said.stderr
