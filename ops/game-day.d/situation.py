"""What a situation of a game day is: what goes wrong, which alert says so, and how it is mended as the
runbook says. `begin` and `mend` are given the installation; what begin returns goes to mend."""

import dataclasses
from typing import Callable

from installation import Installation


@dataclasses.dataclass(frozen=True)
class Situation:
    name: str
    alert: str
    story: str  # for whom it practises, after the alert
    begin: Callable
    mend: Callable
    workers: int = 1
    max_in_flight: int = 64
    lease: int = 4  # seconds
    # How much faster than in life at most: what outfall itself takes its time for does not get faster.
    factor: int = 60
    # And at least: what takes too long here is not late where everything is slower.
    least_factor: int = 1
    # Whether the alert ends with the trouble, and not a window after it.
    ends: bool = True
    # Where the mending is not all the operator's: the part of those who would be called.
    others: Callable = None
    # What is other than usual before anything goes wrong.
    prepare: Callable = None
    # Other alerts that are part of it; a critical one among them is as right as the first.
    also: tuple = ()

    def installation(self, binary, factor, template=None):
        return Installation(binary, factor, workers=self.workers, max_in_flight=self.max_in_flight,
                            lease=self.lease, template=template)


SITUATIONS = {}


def situation(alert, story, **options):
    """Makes a class with begin() and mend(), and others() and prepare() where there are such, a situation,
    named like it with hyphens."""
    def register(cls):
        name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in cls.__name__)[1:]
        SITUATIONS[name] = Situation(name, alert, story, cls.begin, cls.mend,
                                     others=getattr(cls, "others", None),
                                     prepare=getattr(cls, "prepare", None), **options)
        return cls
    return register
