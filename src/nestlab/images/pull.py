"""`nestlab images pull`: which images are meant, and downloading them ahead of `up`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.home import labs
from nestlab.home.directories import Home
from nestlab.images import downloads, pins
from nestlab.lab.blueprint import images_of
from nestlab.lab.model import TEMPLATE_ENDINGS, Image, Lab
from nestlab.lab.urls import is_url, name_in


@frozen
class Wanted:
    """Images to download, by key. `news`: what checksum files say that is not what they said before."""

    images: Mapping[str, Image]
    news: tuple[pins.Read, ...] = ()


def meant(home: Home, words: Sequence[str], options: Mapping[str, str], environ: Mapping[str, str]) -> list[Image]:
    """The images that words mean: lab files, names of labs and URLs. `options`: what is said of the one URL, as
    `images:` of a lab file says it (`sha256`, …). LabError where a word means none."""
    urls = [word for word in words if "://" in word]
    if options and len(urls) != 1:
        raise LabError(f"--{next(iter(options))} is said of one URL.", hint="Name that URL, and no other.")
    found: list[Image] = []
    for word in words:
        if word in urls:
            found.append(_by_url(word, options, environ))
            continue
        lab = _lab(home, word, environ)
        some = [image for image in images_of(lab) if image.url is not None]
        if not some and len(words) == 1:
            raise LabError(f"Lab {lab.name} downloads no image.", hint="`nestlab images build` builds nestlab's own.")
        found += some
    return list(dict.fromkeys(found))


def _lab(home: Home, word: str, environ: Mapping[str, str]) -> Lab:
    from nestlab.labfile import parse

    if word.endswith((".yaml", ".yml")) or Path(word).is_file():
        return parse(Path(word), environ=environ)
    known = labs.load(labs.existing(home, word))
    if known is None:
        raise LabError(f"Which lab file lab {word} was made from is not known.", hint="Name the file.")
    return parse(known.file, environ=environ, sets=known.sets)


def _by_url(url: str, options: Mapping[str, str], environ: Mapping[str, str]) -> Image:
    """The image of a URL on the command line: read as a lab file would say it, so that the same is a mistake."""
    import json

    from nestlab.base.errors import Mistakes
    from nestlab.labfile import parse_text

    if not is_url(url):
        raise LabError(f"{url} is no URL that images are downloaded from.", hint="They begin with https:// or http://.")
    said = {"url": url, **{name.replace("-", "_"): value for name, value in options.items()}}
    for name in ("sums", "signed_by"):
        if name in said and not is_url(said[name]):
            said[name] = str(Path(said[name]).absolute())
    image = json.dumps({key: value.replace("$", "$$") for key, value in said.items()})
    template = name_in(url).lower().endswith((*TEMPLATE_ENDINGS, ".tgz")) or options.get("format") == "tar"
    where, more = ("on: pve://any\n", "container: true, ") if template else ("", "")
    text = f"lab: pull\n{where}machines: {{it: {{{more}image: {image}}}}}\n"
    try:
        lab = parse_text(text, name="the command line", environ=environ)
    except Mistakes as mistakes:
        first = mistakes.mistakes[0]
        if "has no checksum" in first.what:
            how = f"Say it: nestlab images pull --sha256 DIGITS {url} (or --sha512; --sums URL --signed-by KEYFILE)."
            what = f"Nothing says what must be at {name_in(url)}, and nothing is trusted at first sight."
            raise LabError(what, hint=f"{how} Whoever publishes it shows it beside it.") from None
        raise LabError(f"{first.key.rpartition('.')[2]}: {first.what}.", hint=first.hint) from None
    return lab.machines[0].image


async def settled(home: Home, images: Sequence[Image], say: Say, *, update: bool) -> Wanted:
    """The images with their keys, once the checksum files were read that say what they are. `update`: all of them anew,
    also those that were read before."""
    lab_of = [image for image in images if image.sums is not None]
    known = {image: checksum for image in lab_of if (checksum := pins.known_of(image, home))}
    told = await pins.read([image for image in lab_of if update or image not in known], home, say)
    now = known | {replace(each.image, checksum=None): each.checksum for each in told}
    whole = [replace(image, checksum=now[image]) if image in now else image for image in images]
    news = tuple(each for each in told if each.before and each.before != each.checksum)
    return Wanted({downloads.key_of(image): image for image in whole}, news)
