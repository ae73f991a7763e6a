"""How numbers are written, as Grafana writes them, and where the lines of an axis are."""

import math

# Of each unit: (from this number on, divided by this, with these words), the largest first.
SCALES = {
    "short": [(1e9, 1e9, " Bil"), (1e6, 1e6, " Mil"), (1e3, 1e3, " K"), (0, 1, "")],
    "ops": [(1e6, 1e6, "M ops/s"), (1e3, 1e3, "K ops/s"), (0, 1, " ops/s")],
    "percentunit": [(0, 0.01, "%")],
    "bytes": [(2**40, 2**40, " TiB"), (2**30, 2**30, " GiB"), (2**20, 2**20, " MiB"), (2**10, 2**10, " KiB"),
              (0, 1, " B")],
    "s": [(86400, 86400, " days"), (3600, 3600, " hours"), (60, 60, " mins"), (1, 1, " s"), (1e-3, 1e-3, " ms"),
          (1e-9, 1e-6, " µs"), (0, 1, " s")],
}
# What divides an hour or a day well; below a second tens do.
SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
MOST_LINES = 6


def written(value, unit):
    """With three digits that count, as 1.5 K, 20 ms and 0 s; more than that could not be seen."""
    scale = next(scale for scale in SCALES[unit] if abs(value) >= scale[0])
    number = value / scale[1]
    digits = max(0, 2 - int(math.floor(math.log10(abs(number))))) if number else 0
    text = f"{number:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + scale[2]


def steps(unit):
    """Distances that lines may have, from the smallest on."""
    if unit == "bytes":
        yield from (2**power for power in range(60))
        return
    for power in range(-9, 15):
        for factor in (1, 2, 5):
            step = factor * 10.0**power
            if unit == "s" and step >= 1:
                yield from SECONDS
                yield from (86400 * days * 10**power for power in range(9) for days in (2, 5, 10))
                return
            yield step


def axis(low, high, unit):
    """The values of an axis' lines; the first and the last are its ends."""
    if high <= low:
        high = low + 1
    for step in steps(unit):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < MOST_LINES:
            return [number * step for number in range(first, last + 1)]
    raise ValueError(f"no axis from {low} to {high}")


def time_step(seconds, most):
    """How far apart the lines of a time axis are, of which there are `most` at most."""
    for step in SECONDS:
        if seconds / step <= most:
            return step
    return math.ceil(seconds / most / 86400) * 86400
