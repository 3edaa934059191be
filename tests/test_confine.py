"""What a lab adds to an image is done in confinement: each test is a build script that wants out of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from nestlab.home.directories import Home
from nestlab.images import user_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a user's namespace is made by mmdebstrap alone")

TEXT = files("nestlab.images").joinpath("confine.pl").read_text()
APART = user_namespace.possible()


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that needs no libraries: this machine's, or that of a package in the cache."""
    kept = sorted((Home.of(os.environ, Path.home()).cache / "packages").glob("busybox-static_*.deb"))
    if kept and shutil.which("dpkg-deb"):
        folder = tmp_path_factory.mktemp("busybox")
        subprocess.run(["dpkg-deb", "-x", str(kept[-1]), str(folder)], check=True)
        return folder / "usr/bin/busybox"
    found = shutil.which("busybox")
    if found is None or b"statically" not in subprocess.run(["file", "-L", found], capture_output=True).stdout:
        pytest.skip("there is no static busybox here")
    return Path(found)


def above_of(path: Path) -> list[Path]:
    """The directories above it that are the tests' own: users of a namespace are to come through them."""
    return [above for above in path.parents if Path("/tmp") in above.parents]


@pytest.fixture
def root(tmp_path: Path, busybox: Path) -> Iterator[Path]:
    """A chroot that belongs to root of the namespace."""
    for above in (tmp_path, *above_of(tmp_path)):
        above.chmod(above.stat().st_mode | 0o055)
    place = tmp_path / "root"
    for name in ("usr/bin", "etc", "tmp"):
        (place / name).mkdir(parents=True)
    shutil.copy(busybox, place / "usr/bin/busybox")
    if APART:
        for path in (place, *place.rglob("*")):
            os.chown(path, user_namespace.FIRST, user_namespace.FIRST, follow_symlinks=False)
    yield place
    shutil.rmtree(place)


def run(root: Path, script: str, *, kept: str = "", view: str = "", **how: object) -> subprocess.CompletedProcess[str]:
    """A script in confinement, as in a build by root of this machine."""
    words = ["perl", "-e", TEXT, str(root), view, kept, "/usr/bin/busybox", "sh", "-c", script]
    command = user_namespace.inside(words) if APART else words
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **how)  # type: ignore[call-overload,no-any-return]


def test_its_status_is_the_programs(root: Path) -> None:
    assert run(root, "exit 7").returncode == 7
    assert run(root, "kill -9 $$; sleep 9").returncode in (137, 0), "its first process takes no signal of its own"
    assert run(root, "true").returncode == 0


def test_it_has_no_descriptor_of_those_who_started_it(root: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    secret = tmp_path / "secret"
    secret.write_text("hush")
    with ours, theirs, secret.open() as opened:
        for each in (theirs.fileno(), opened.fileno()):
            os.set_inheritable(each, True)
        passed = (theirs.fileno(), opened.fileno())
        done = run(root, "cd /proc/self/fd; echo *; readlink 0", pass_fds=passed)
        numbers = {int(word) for word in done.stdout.split() if word.isdigit()}
        assert numbers <= {0, 1, 2, 3}, "3 is the folder that it reads"
        assert "/dev/null" in done.stdout
        # What mmdebstrap's listener would do for whoever holds its socket: write a file as the user.
        attack = "for f in 3 4 5 6 7 8 9; do printf '\\0\\5openw/tmp/x' >&$f; done 2>/dev/null; cat <&3"
        assert "hush" not in run(root, attack, pass_fds=passed).stdout
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)


def test_it_keeps_the_descriptors_that_it_is_to_keep(root: Path, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        (tmp_path / "out").chmod(0o666)
        number = out.fileno()
        run(root, f"echo made >/proc/self/fd/{number}", kept=str(number), pass_fds=(number,))
    assert (tmp_path / "out").read_text() == "made\n"


def test_its_environment_has_nothing_of_ours(root: Path) -> None:
    ours = {**os.environ, "NESTLAB_PVE_TOKEN": "hush", "AWS_SECRET_ACCESS_KEY": "hush", "SSH_AUTH_SOCK": "/hush"}
    said = run(root, "env; cat /proc/1/environ", env=ours).stdout
    assert "hush" not in said
    assert {line.partition("=")[0] for line in said.split("\n") if "=" in line and "\0" not in line} <= {
        *("PATH", "HOME", "LC_ALL", "DEBIAN_FRONTEND", "PWD", "SHLVL", "OLDPWD"),
    }


def test_there_is_no_way_to_the_hosts_files(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    ways = ["", "/..", "/../../../..", "/proc/1/root", "/proc/self/root/..", "/proc/1/cwd", "/mnt", "/sys", "/dev"]
    for way in ways:
        said = run(root, f"cat {way}{tmp_path}/secret; cat {way}/secret; ls {way}{tmp_path}")
        assert "hush" not in said.stdout
        assert "secret" not in said.stdout
    again = "mkdir -p /a; cd /; chroot /a /usr/bin/busybox true; cd ../../../..; cat ./etc/shadow .%s/secret"
    assert run(root, again % tmp_path).stdout == ""


@pytest.mark.parametrize(
    "attack",
    [
        "mknod /disk b 8 0 && cat /disk",
        "mknod /mem c 1 1 && cat /mem",
        "mount -t tmpfs none /tmp",
        "mount -o bind /dev /tmp",
        "mount -o remount,rw /proc/sys",
        "umount /proc/sys",
        "mount -t proc proc /tmp",
        "unshare -m true",
        "unshare -r mknod /disk b 8 0",
        "unshare -rmpf mount -t proc proc /tmp",
        "unshare -rm umount /proc/sys",
        "nsenter -t 1 -m true",
        "insmod /x.ko",
        "echo x >/proc/sys/kernel/core_pattern",
        "echo x >/proc/sys/kernel/hostname",
        "echo b >/proc/sysrq-trigger",
        "swapoff -a && false",
        "hwclock -w",
        "ip link set lo up",
        "ip link add type veth",
        "dmesg -c",
    ],
)
def test_it_has_no_right_that_acts_outside(root: Path, attack: str) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    said = run(root, attack)
    assert said.returncode != 0, said.stdout
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_its_rights_end_where_the_image_ends(root: Path) -> None:
    status = dict(line.split(":", 1) for line in run(root, "cat /proc/self/status").stdout.splitlines() if ":" in line)
    bounding = int(status["CapBnd"], 16)
    admin, ptrace, raw_io, module, mknod, dac_read = 21, 19, 17, 16, 27, 2
    assert not any(bounding >> right & 1 for right in (admin, ptrace, raw_io, module, mknod, dac_read))
    assert status["NoNewPrivs"].strip() == "1"
    if APART:
        made = root / "made"
        run(root, "echo >/made; chmod 4755 /made")
        assert made.stat().st_uid == user_namespace.FIRST, "set-uid files are nobody's on this machine"


def test_it_sees_and_reaches_no_process_of_the_host(root: Path) -> None:
    said = run(root, f"ls -d /proc/[0-9]*; kill -9 {os.getpid()}; kill -9 -1; echo alive")
    assert "/proc/1\n" in said.stdout
    assert len(said.stdout.split()) <= 4
    assert f"/proc/{os.getpid()}\n" not in said.stdout or os.getpid() < 10


def test_it_reaches_no_service_of_the_host(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0nestlab-test-{os.getpid()}")
        abstract.listen()
        server.setblocking(False)
        port = server.getsockname()[1]
        said = run(root, f"nc -w 1 127.0.0.1 {port} </dev/null; cat /proc/net/unix; ip -o addr")
        with pytest.raises(BlockingIOError):
            server.accept()
        assert "nestlab-test" not in said.stdout
        assert "inet" not in said.stdout


def test_what_it_leaves_running_ends_with_it(root: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    with os.fdopen(os.open(fifo, os.O_RDWR), "rb+", buffering=0) as held:
        number = os.open(fifo, os.O_WRONLY)
        run(root, "setsid sleep 1000 & nohup sleep 1000 & exit 0", kept=str(number), pass_fds=(number,))
        os.close(number)
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        held.close()
        assert os.read(reading, 1) == b"", "nobody holds the other end any more"
        os.close(reading)


def test_links_in_the_image_lead_into_the_image(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    (root / "link").symlink_to(outside)
    (root / "up").symlink_to("../" * 20 + str(outside).lstrip("/"))
    run(root, "mkdir -p /outside; for d in /link /up; do echo owned >$d/file; rm -rf $d/*; touch $d/x; done")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["proc", "dev", "sys", "mnt"])
def test_a_link_where_something_is_mounted_is_refused(root: Path, tmp_path: Path, name: str) -> None:
    (root / name).symlink_to("/etc")
    said = run(root, "echo ran", view="mnt")
    assert said.returncode == 125
    assert f"cannot confine: {name} in the image is no directory" in said.stderr
    assert "ran" not in said.stdout


def test_the_clean_view_has_the_image_without_what_is_mounted_in_it(root: Path) -> None:
    said = run(
        root, "ls /mnt; ls /mnt/proc /mnt/dev /mnt/sys /mnt/mnt; echo x >/mnt/etc/made; cat /etc/made", view="mnt"
    )
    assert {"etc", "usr", "proc", "dev"} <= set(said.stdout.split())
    assert "null" not in said.stdout
    assert said.stdout.endswith("x\n")


def test_only_root_of_the_namespace_may_enter_where_the_chroot_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for above in above_of(tmp_path):
        above.chmod(above.stat().st_mode | 0o055)
    place = tmp_path / "scratch"
    place.mkdir()
    (place / "secret").write_text("hush")
    (place / "secret").chmod(0o644)
    user_namespace.let_in(place, [user_namespace.FIRST])
    ids = ["--clear-groups", "--regid", "65534", "--reuid"]
    for user, may in ((user_namespace.FIRST, True), (65534, False), (1000, False)):
        got = subprocess.run(["setpriv", *ids, str(user), "cat", str(place / "secret")], capture_output=True, text=True)
        assert ("hush" in got.stdout) is may
        seen = subprocess.run(["setpriv", *ids, str(user), "ls", str(place)], capture_output=True, text=True)
        assert ("secret" in seen.stdout) is may


def test_a_namespace_is_only_for_root_who_has_the_users_to_give(tmp_path: Path) -> None:
    for kind in ("uid", "gid"):
        (tmp_path / f"{kind}_map").write_text("         0          0 4294967295\n")
    assert user_namespace.possible(tmp_path)
    (tmp_path / "gid_map").write_text("         0     100000      65536\n")
    assert not user_namespace.possible(tmp_path)


def test_told_to_end_it_waits_for_its_command() -> None:
    if not APART:
        pytest.skip("this root has no users to give")
    words = user_namespace.inside(
        ["sh", "-c", "trap 'echo cleaned; exit 3' TERM; echo ready; while :; do sleep 0.1; done"]
    )
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, 15)
        assert process.communicate(timeout=60)[0] == "cleaned\n"
        assert process.returncode == 3
