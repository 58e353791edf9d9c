"""Which metrics a server tells, and the bounds of its histograms. It knows no server."""


def series(text: str) -> dict[str, set[float]]:
    """The bounds of each histogram by its name, and other metrics without any."""
    found: dict[str, set[float]] = {}
    for line in text.splitlines():
        name = line.split("{")[0].split(" ")[0]
        if name.startswith("#") or not name:
            continue
        bounds = found.setdefault(name, set())
        if 'le="' in line and name.endswith("_bucket"):
            bounds.add(float(line.partition('le="')[2].partition('"')[0]))
    return found
