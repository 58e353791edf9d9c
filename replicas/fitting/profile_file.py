"""A fitted profile as a JSON file and as a table of its errors. It fits nothing."""

import json
from pathlib import Path

from replicas.fitting.profile_fit import rounded
from replicas.profile import EngineProfile


def write_profile(profile: EngineProfile, path: Path) -> None:
    """As JSON, written aside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(rounded(profile.to_json()), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def table(profile: EngineProfile) -> str:
    """The errors as text: one line a sweep, one line a run and quantile."""
    lines = [
        f"{profile.name}: {profile.step}",
        f"frontend_s {profile.frontend_s:.5f}, frontend_chunk_s {profile.frontend_chunk_s:.6f}",
    ]
    for name, e in profile.fit_error["sweeps"].items():
        lines.append(f"  {name:45} n {e['n']:4d}  mean {e['mean']:6.1%}  median {e['median']:6.1%}  worst {e['worst']:6.1%}")
    for name, run in profile.fit_error["runs"].items():
        lines.append(f"  {name} ({run['requests']} requests, {'fitted' if run['used_in_fit'] else 'held out'})")
        for quantile, e in run["quantiles"].items():
            was, said = e["measured_s"] * 1e3, e["predicted_s"] * 1e3
            lines.append(f"    {quantile:9} measured {was:8.1f} ms  predicted {said:8.1f} ms  {e['error']:+6.1%}")
    return "\n".join(lines)
