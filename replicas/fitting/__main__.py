"""`python -m replicas.fitting FOLDER --out PROFILE.json` fits a profile and writes it. It knows no fit."""

import argparse
import sys
from collections.abc import Sequence as Seq
from pathlib import Path

from replicas.fitting.profile_file import table, write_profile
from replicas.fitting.profile_fit import fit_profile
from replicas.fitting.sources import SOURCES, read_source, source_of


def main(arguments: Seq[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m replicas.fitting", description=__doc__)
    parser.add_argument("folder", type=Path, help="a calibration folder; its name must be one of " + ", ".join(SOURCES))
    parser.add_argument("--out", type=Path, required=True, help="the profile to write")
    given = parser.parse_args(arguments)
    try:
        source = source_of(given.folder)
        data = read_source(given.folder, source)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    profile = fit_profile(source, data)
    write_profile(profile, given.out)
    print(table(profile))
    return 0


if __name__ == "__main__":
    sys.exit(main())
