"""Signatures of checksum files: OpenPGP, checked by gpgv or sqv against the keys of one file and no others."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from nestlab.base import files, temporary
from nestlab.base.errors import LabError
from nestlab.base.printable import one_line

CLEAR = b"-----BEGIN PGP SIGNED MESSAGE-----"

_BLOCK = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL)
_WAIT = 60.0


async def verified(what: str, text: bytes, signature: bytes | None, keys: bytes) -> bytes:
    """What of `text` one of the keys has signed: all of it (`signature`: of its own file), or what is between the lines
    of a clear-signed one. LabError if nobody has, or neither gpgv nor sqv is there."""
    program = next((each for each in ("gpgv", "sqv") if shutil.which(each)), None)
    if program is None:
        hint = "Install one of the packages gpgv and sqv (apt install gpgv), then run the same command again."
        raise LabError(f"The signature of {what} cannot be checked: there is no gpgv here.", hint=hint)
    with temporary.folder() as name:
        folder = Path(name)
        ring, message, sign, signed = (folder / each for each in ("keys", "message", "signature", "signed"))
        contents = {ring: keys if program == "sqv" else binary(keys), message: text}
        contents |= {sign: signature} if signature is not None else {}
        files.replace_all({path: (data, 0o600) for path, data in contents.items()}, synced=False)
        if program == "sqv":
            words = ["sqv", "--keyring", str(ring)]
            words += [str(sign), str(message)] if signature else ["--output", str(signed), "--cleartext", str(message)]
        else:
            words = ["gpgv", "--homedir", name, "--status-fd", "1", "--keyring", str(ring)]
            words += [str(sign), str(message)] if signature else ["--output", str(signed), str(message)]
        status, said = await _run(words)
        if program == "sqv" and signature is None and "--output" in said:  # before 1.3
            hint = "Install the package gpgv (apt install gpgv), then run the same command again."
            raise LabError(f"{what} is signed within itself, which this sqv cannot check.", hint=hint)
        if status != 0 or (program == "gpgv" and not good(said)):
            raise _unsigned(what, said)
        return text if signature is not None else signed.read_bytes()


def good(said: str) -> bool:
    """Whether gpgv's status lines tell of a good signature and no bad one (GnuPG's doc/DETAILS)."""
    kinds = {line.split()[1] for line in said.splitlines() if line.startswith("[GNUPG:] ")}
    return {"GOODSIG", "VALIDSIG"} <= kinds and "BADSIG" not in kinds


def binary(keys: bytes) -> bytes:
    """Keys without their armor, which gpgv does not read. LabError if it is damaged."""
    blocks = _BLOCK.findall(keys)
    if not blocks:
        return keys
    found = b""
    for block in blocks:
        lines = [line.strip() for line in block.splitlines()]
        head = lines.index(b"") if b"" in lines else -1
        body = b"".join(line for line in lines[head + 1 :] if line and not line.startswith(b"="))
        try:
            found += base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise LabError("The file with the keys (`signed_by`) is damaged.", hint="Export them again.") from error
    return found


def _unsigned(what: str, said: str) -> LabError:
    why = "none of the keys in `signed_by` has signed it"
    for mark, meaning in (
        ("BADSIG", "the signature is of something else"),
        ("Message has been manipulated", "the signature is of something else"),
        ("EXPKEYSIG", "the key that signed it has expired"),
        ("REVKEYSIG", "the key that signed it was revoked"),
        ("EXPSIG", "the signature has expired"),
    ):
        if (f"[GNUPG:] {mark}" if mark.isupper() else mark) in said:
            why = meaning
            break
    lines = [one_line(line) for line in said.splitlines() if line and not line.startswith("[GNUPG:]")]
    hint = "Nothing was downloaded. Compare the key with the one that its vendor shows."
    return LabError(f"{what} is not signed as the lab file says: {why}.", hint=hint, detail="\n".join(lines[:6]))


async def _run(words: Sequence[str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )
    try:
        async with asyncio.timeout(_WAIT):
            output, _ = await process.communicate()
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, output[:20_000].decode(errors="replace")
