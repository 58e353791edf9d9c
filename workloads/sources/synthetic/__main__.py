"""`python -m workloads.sources.synthetic OUT.parquet`: write the shipped sample. It knows no parameter but the place."""

import sys
from pathlib import Path

from workloads.sources.synthetic import write_sample

if len(sys.argv) != 2:
    raise SystemExit("usage: python -m workloads.sources.synthetic OUT.parquet")
trace = write_sample(Path(sys.argv[1]))
print(f"{sys.argv[1]}: {len(trace)} sessions, {trace.turn_count} turns, sha256 {trace.provenance['sha256']}")
