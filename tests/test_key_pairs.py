"""Key pairs, read by the programs they are for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nestlab.home import key_pairs

KEYGEN = shutil.which("ssh-keygen")
DROPBEARKEY = shutil.which("dropbearkey")


def test_asyncssh_reads_both_halves() -> None:
    import asyncssh

    pair = key_pairs.generate("hv1/web")
    private, public = asyncssh.import_private_key(pair.private), asyncssh.import_public_key(pair.public)
    assert private.convert_to_public() == public
    assert private.get_comment() == public.get_comment() == "hv1/web"
    assert public.get_fingerprint() == pair.fingerprint


@pytest.mark.skipif(KEYGEN is None, reason="needs ssh-keygen")
def test_openssh_reads_both_halves(tmp_path: Path) -> None:
    pair = key_pairs.generate("a comment of words")
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(pair.private)
    assert KEYGEN is not None
    shown = subprocess.run([KEYGEN, "-y", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == pair.public
    (tmp_path / "key.pub").write_text(pair.public + "\n")
    shown = subprocess.run([KEYGEN, "-l", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert shown.split()[1] == pair.fingerprint


@pytest.mark.skipif(DROPBEARKEY is None, reason="needs dropbearkey")
def test_dropbear_reads_its_host_key(tmp_path: Path) -> None:
    pair = key_pairs.generate("")
    (tmp_path / "key").write_bytes(pair.dropbear)
    assert DROPBEARKEY is not None
    shown = subprocess.run([DROPBEARKEY, "-y", "-f", str(tmp_path / "key")], capture_output=True, text=True, check=True)
    assert pair.public in shown.stdout


def test_dropbears_form_is_type_seed_and_public_half() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = key_pairs.generate("x").dropbear
    assert data[:19] == b"\0\0\0\x0bssh-ed25519\0\0\0\x40"
    seed, public = data[19:51], data[51:]
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == public


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 ???", "ssh-ed25519 AAA"])
def test_what_is_no_public_key_has_no_fingerprint(text: str) -> None:
    with pytest.raises(ValueError, match="not a public key line"):
        key_pairs.fingerprint(text)


def test_secrets_do_not_show() -> None:
    pair = key_pairs.generate("x")
    assert "PRIVATE" not in repr(pair)
    assert repr(pair.dropbear) not in repr(pair)


def test_keys_differ() -> None:
    assert len({key_pairs.generate("x").public for _ in range(20)}) == 20
