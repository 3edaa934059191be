"""What unattended installers are answered: one value in words that all of them share (`Answers`), and for each family
of installers the text it reads, with its own rules checked. Pure: who serves the texts is in `install`."""

from __future__ import annotations

from nestlab.answers.families import FAMILIES, Answered, Family, answered, mistakes
from nestlab.answers.model import Answers, ServerAddress

__all__ = ["FAMILIES", "Answered", "Answers", "Family", "ServerAddress", "answered", "mistakes"]
