"""`stampede profile`: lists profiles and data sheets, writes one from a data sheet. It knows no formula."""

from pathlib import Path

from flows.failure import say


def list_all() -> None:
    """Shipped profiles, then the models and cards a roofline can be made of, one a line."""
    from replicas.data_sheets import GPUS, MODELS
    from replicas.profile import PROFILES, EngineProfile

    for path in sorted(PROFILES.glob("*.json")):
        profile = EngineProfile.load(path.stem)
        print(f"profile  {path.stem:20} {profile.engine} {profile.engine_version}, {profile.gpu}, {profile.model}")
    for name, model in MODELS.items():
        print(
            f"model    {name:20} {model.parameters / 1e9:.1f} G parameters, {model.kv_bytes_per_token / 1024:.0f} KiB KV a token"
        )
    for name, gpu in GPUS.items():
        print(f"gpu      {name:20} {gpu.flops / 1e12:.0f} TFLOP/s bf16, {gpu.memory_bytes_s / 1e12:.2f} TB/s, {gpu.label}")


def write_roofline(model: str, gpu: str, tp: int, out: str | None) -> None:
    """Write it to `out`, or print it; says how far its formula is from the one measured card."""
    import json

    from replicas.fitting.profile_file import write_profile
    from replicas.fitting.profile_fit import rounded
    from replicas.roofline import roofline_profile

    profile = roofline_profile(model, gpu, tp)
    errors = profile.fit_error["against h100-vllm-llama8b"]
    say("roofline, not measured; its error on the one measured card: " + ", ".join(f"{k} {v:+.0%}" for k, v in errors.items()))
    if out is None:
        print(json.dumps(rounded(profile.to_json()), indent=1, ensure_ascii=False))
        return
    if Path(out).suffix != ".json":
        raise ValueError(f"--out {out!r}: must be a .json file")
    write_profile(profile, Path(out))
    print(out)
