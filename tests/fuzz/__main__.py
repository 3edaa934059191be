"""python -m fuzz [TARGET...]: so many cases of each target; what is found is stored. Exit status 1 if anything was."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from fuzz import runner
from fuzz.target import NAMES, case_of, load


def main() -> int:
    words = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    words.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; all of them if left out")
    words.add_argument("--cases", type=int, default=10_000, help="of each target")
    words.add_argument("--seed", type=int, default=0, help="another seed makes other cases")
    words.add_argument("--first", type=int, default=0, help="the number of the first case")
    words.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    words.add_argument("--show", type=int, metavar="NUMBER", help="write this case of the one TARGET to stdout")
    words.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="run stored cases of the one TARGET")
    given = words.parse_args()
    if unknown := set(given.targets) - set(NAMES):
        words.error(f"no target is called {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    if (given.show is not None or given.replay) and len(given.targets) != 1:
        words.error("name one TARGET")
    if given.show is not None:
        sys.stdout.buffer.write(case_of(load(given.targets[0]), given.targets[0], given.seed, given.show))
        return 0
    if given.replay:
        return _told(runner.replay(given.targets[0], given.replay), store=False)
    began = time.monotonic()
    found = 0
    for target in given.targets or NAMES:
        found |= _told(
            runner.run(target, seed=given.seed, cases=given.cases, jobs=given.jobs, first=given.first), store=True
        )
    print(f"seed {given.seed}, {time.monotonic() - began:.0f} s")
    return found


def _told(total: runner.Sum, *, store: bool) -> int:
    print(total.line(), flush=True)
    if not total.findings:
        return 0
    paths = runner.store(total) if store else [Path()] * len(total.findings)
    for path, finding in zip(paths, total.findings.values(), strict=True):
        print(f"\ncase {finding.number} of seed {total.seed}: {finding.what}\n{finding.told[-3000:]}")
        print(f"stored as {path}" if store else "", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
