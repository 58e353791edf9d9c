"""The pools of a study file: simulated replicas, or live ones by engine, model and limits. It starts nothing."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from flows.study_parts import Label, Strict
from replay.cell import PoolSpec
from replicas.profile import EngineProfile
from replicas.view import Role

ONE, SEVERAL = "<one>", "<several>"
"""Stand in pydantic's error paths for a mapping or a list of mappings; they are no keys."""
DEFAULT_PROFILE = "h100-vllm-llama8b"
TINY = "tiny"
TINY_CONTEXT_TOKENS = 2048
NOT_OF_A_REMOTE = (
    "python", "weights", "gpus", "threads", "max_running", "max_batched_tokens", "max_queued", "kv_tokens", "kv_bytes",
    "block_tokens", "arguments", "environment",
)  # fmt: skip
NOT_OF_SERVED = ("python", "weights", "gpus", "threads", "kv_bytes", "kv_transfer", "arguments", "environment")

Whole = Annotated[int, Field(ge=1, le=1_000_000_000)]


def how_many(value: object) -> str:
    return SEVERAL if isinstance(value, list | tuple) else ONE


class LiveGroup(Strict):
    """Equal live replicas: `replicas` launched here, or those that already run at `urls`.

    `engine` vllm, sglang, or served (our simulated engine as a real server). `python` is that of the engine's environment (null:
    by the engine's variable, or what `stampede doctor --install` made). `model` is a folder, or `tiny`: a made-up one without
    weights; of remote replicas the served model's name. `gpus` names the cards of each replica (none: CPU). `context_tokens` and
    the other limits are the engine's own; null leaves them to it.
    """

    engine: Literal["vllm", "sglang", "served"]
    replicas: Annotated[int, Field(ge=1, le=256)] = 1
    python: str | None = None
    model: Annotated[str, Field(min_length=1)] = TINY
    weights: Literal["model", "dummy"] | None = None
    gpus: list[list[int | str]] = Field(default=[])
    urls: list[str] = Field(default=[])
    api_key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    context_tokens: Annotated[int, Field(ge=2, le=100_000_000)] | None = None
    max_running: Whole | None = None
    max_batched_tokens: Whole | None = None
    max_queued: Whole | None = None
    kv_tokens: Whole | None = None
    kv_bytes: Annotated[int, Field(ge=1, le=10**15)] | None = None
    block_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    role: Role = "both"
    kv_transfer: str | None = None
    arguments: list[str] = Field(default=[])
    environment: dict[str, str] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _count_urls(cls, value: object) -> object:
        if isinstance(value, dict) and "replicas" not in value and isinstance(value.get("urls"), list) and value["urls"]:
            return {**value, "replicas": len(value["urls"])}
        return value

    @field_validator("urls")
    @classmethod
    def _hosts(cls, value: list[str]) -> list[str]:
        for url in value:
            if not url.startswith(("http://", "https://")) or url.count("/") != 2 or not url.isascii() or " " in url:
                raise ValueError(f"{url!r} must be http://HOST:PORT or https://HOST:PORT, without a path")
        if len(set(value)) < len(value):
            raise ValueError("must not name a replica twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.urls:
            self._remote_only()
        elif self.api_key_variable is not None:
            raise ValueError("api_key_variable is for remote replicas (urls) only")
        if self.engine == "served":
            self._refuse(NOT_OF_SERVED, "is not for served replicas: pool.profile and its changes say what they are")
            if self.role != "both" or self.model != TINY:
                raise ValueError("served replicas do both parts and have no model of their own: role and model must be left out")
        if self.gpus and len(self.gpus) != self.replicas:
            raise ValueError(f"gpus must be empty or name the cards of each of the {self.replicas} replicas: [[0], [1]] for two")
        if (self.role == "both") != (self.kv_transfer is None) and not self.urls:
            raise ValueError("role prefill or decode and kv_transfer (how KV gets from one to the other) need each other")
        if self.kv_bytes is not None and (self.kv_tokens is not None or self.engine != "vllm"):
            raise ValueError("kv_bytes is for vllm only, and not together with kv_tokens")
        return self

    def _remote_only(self) -> None:
        self._refuse(NOT_OF_A_REMOTE, "cannot be set for remote replicas (urls): who started them has")
        if self.engine == "served":
            raise ValueError("urls need engine vllm or sglang: whose manners the replicas have")
        if self.replicas != len(self.urls):
            raise ValueError(f"replicas is {self.replicas}, and there are {len(self.urls)} urls; leave replicas out")
        if "model" not in self.model_fields_set or self.context_tokens is None:
            raise ValueError("urls need model (the served model's name) and context_tokens (their limit) beside them")

    def _refuse(self, names: tuple[str, ...], why: str) -> None:
        given = [name for name in names if getattr(self, name) not in (None, [], {})]
        if given:
            raise ValueError(f"{', '.join(given)} {why}")

    @property
    def remote(self) -> bool:
        return bool(self.urls)

    @property
    def limits(self) -> dict[str, int]:
        """What is set of the engine's limits."""
        names = ("context_tokens", "max_running", "max_batched_tokens", "max_queued", "kv_tokens", "kv_bytes", "block_tokens")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


Groups = Annotated[
    Annotated[LiveGroup, Tag(ONE)] | Annotated[list[LiveGroup], Tag(SEVERAL), Field(min_length=1, max_length=64)],
    Discriminator(how_many),
]


class Pool(Strict):
    """`replicas` copies of one engine profile (by name or .json file) with some fields changed, simulated; or a `live` pool.

    `roles` makes a simulated prefill/decode pool: one of both, prefill, decode for each replica. A live pool's `profile` is what
    policies that forecast are told, what `served` replicas are, and what its `twin` is made of: the same cells in virtual time.
    """

    label: Label | None = None
    replicas: Annotated[int, Field(ge=1, le=4096)] = 4
    profile: str | None = DEFAULT_PROFILE
    changes: dict[str, Any] = Field(default={})
    roles: list[Role] = Field(default=[])
    live: Groups | None = None
    twin: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_live(cls, value: object) -> object:
        """A live pool's replicas are its groups'; without a profile of its own it has none, unless it is served."""
        if not isinstance(value, dict) or value.get("live") is None:
            return value
        listed = value["live"] if isinstance(value["live"], list) else [value["live"]]
        groups = [group if isinstance(group, dict) else {} for group in listed]
        counts = [group.get("replicas", len(group.get("urls") or []) or 1) for group in groups]
        served = any(group.get("engine") == "served" for group in groups)
        known = {"replicas": sum(counts)} if all(type(count) is int for count in counts) and sum(counts) >= 1 else {}
        return {**known, "profile": DEFAULT_PROFILE if served else None, **value}

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.live is None:
            if self.roles and len(self.roles) != self.replicas:
                raise ValueError(f"roles must be empty or name one role for each of the {self.replicas} replicas")
            if self.profile is None:
                raise ValueError("profile must not be null: simulated replicas are what their profile says")
            if self.twin is not None:
                raise ValueError("twin is for live pools: the same cells once more, simulated")
            return self
        if self.replicas != sum(group.replicas for group in self.groups):
            counted = sum(group.replicas for group in self.groups)
            raise ValueError(f"replicas is {self.replicas}, and the live groups have {counted} in all; leave replicas out")
        if self.roles:
            raise ValueError("roles are for simulated pools; give each live group its role")
        if self.changes and self.profile is None:
            raise ValueError("changes are of the profile's fields, and this live pool has no profile")
        taken = {"kv_blocks" if name == "kv_tokens" else name for group in self.groups for name in group.limits}
        if twice := sorted(taken & self.changes.keys()):
            raise ValueError(f"changes: {', '.join(twice)} is a limit of live already; give it once")
        self._check_served()
        self._check_twin()
        return self

    def _check_served(self) -> None:
        served = [group.engine == "served" for group in self.groups]
        if any(served) and (not all(served) or len(served) > 1):
            raise ValueError("served replicas make a pool of their own, in one group")
        if any(served) and self.profile is None:
            raise ValueError("profile must not be null: served replicas are what their profile says")

    def _check_twin(self) -> None:
        if not self.twin:
            return
        if self.profile is None:
            raise ValueError("twin needs a profile: what the simulated replicas are")
        if not self.can_have_twin:
            raise ValueError("twin needs launched replicas of one engine with one set of limits: the simulator has one profile")

    @property
    def groups(self) -> list[LiveGroup]:
        """The live groups; none of a simulated pool."""
        return [] if self.live is None else self.live if isinstance(self.live, list) else [self.live]

    @property
    def is_live(self) -> bool:
        return self.live is not None

    @property
    def can_have_twin(self) -> bool:
        """Whether one profile can stand for all its replicas."""
        if not self.is_live:
            return False
        same = len({(group.engine, *sorted(group.limits.items())) for group in self.groups}) == 1
        return self.profile is not None and same and not any(group.remote for group in self.groups)

    @property
    def has_twin(self) -> bool:
        return self.can_have_twin if self.twin is None else self.twin

    @property
    def all_roles(self) -> tuple[Role, ...]:
        """One a replica; empty where every replica does both."""
        roles = tuple(group.role for group in self.groups for _ in range(group.replicas)) or tuple(self.roles)
        return roles if set(roles) != {"both"} else ()

    @property
    def all_changes(self) -> dict[str, Any]:
        """Fields of the profile that are changed: by a live group's limits, and by `changes`. ValueError for a wrong profile."""
        if self.profile is None or not self.can_have_twin:
            return dict(self.changes)
        return {**_limits_as_fields(self.groups[0], EngineProfile.load(self.profile)), **self.changes}

    @property
    def engine_profile(self) -> EngineProfile | None:
        """Its profile as changed; None for a live pool that has none. ValueError for one that is wrong."""
        return None if self.profile is None else EngineProfile.load(self.profile).with_changes(self.all_changes)

    @property
    def context_tokens(self) -> int:
        """The longest context that all its replicas, and its twin, can hold. ValueError for a model that is not there."""
        limits = [_context_of(group) for group in self.groups if group.engine != "served"]
        if self.engine_profile is not None and (self.can_have_twin or not self.is_live):
            limits.append(self.engine_profile.context_tokens)
        return min(limits)

    @property
    def title(self) -> str:
        """How reports call it."""
        if self.label:
            return self.label
        if self.live is not None:
            return " + ".join(f"{group.replicas} × {group.engine}{', remote' if group.remote else ''}" for group in self.groups)
        words = "".join(f", {key} {value}" for key, value in self.changes.items())
        return f"{self.replicas} × {Path(str(self.profile)).stem}{words}"

    def spec(self) -> PoolSpec:
        """A simulated pool, or a live one's profile simulated, as a cell holds it; a profile's file is named in full, so that the
        cell runs from anywhere. What a live pool is itself: `flows.live_pool`."""
        if self.profile is None:
            raise ValueError(f"pool {self.title}: it has no profile, so it cannot be simulated")
        named = Path(self.profile)
        return PoolSpec(
            label=self.title,
            replicas=self.replicas,
            profile=str(named.absolute()) if named.suffix == ".json" else self.profile,
            profile_hash=EngineProfile.load(self.profile).content_hash,
            changes=self.all_changes,
            roles=self.all_roles,
        )


def _limits_as_fields(group: LiveGroup, profile: EngineProfile) -> dict[str, Any]:
    """An engine's limits as fields of its profile; vLLM keeps one block of its pool to itself."""
    names = ("context_tokens", "max_running", "max_batched_tokens", "max_queued", "block_tokens")
    found: dict[str, Any] = {name: value for name in names if (value := group.limits.get(name)) is not None}
    if group.engine != "served" and group.model == TINY:
        found.setdefault("context_tokens", TINY_CONTEXT_TOKENS)
    if group.kv_tokens is not None:
        block = group.block_tokens or profile.block_tokens
        null_blocks = 1 if group.engine == "vllm" else 0
        found["kv_blocks"] = max(1, group.kv_tokens // block - null_blocks)
    return found


def _context_of(group: LiveGroup) -> int:
    if group.context_tokens is not None:
        return group.context_tokens
    if group.model == TINY:
        return TINY_CONTEXT_TOKENS
    from replicas.launch.spec import model_config

    try:
        return int(model_config(Path(group.model).expanduser())["max_position_embeddings"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"model {group.model!r}: its config.json gives no max_position_embeddings ({error})") from error
