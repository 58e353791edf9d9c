"""What is generated from a specification; no program is started, so this runs everywhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from routers.gateways import DIRECT, GATEWAYS, PASS_THROUGH, PASS_THROUGH_POLICY, find_gateway
from routers.gateways.gateway import Gateway, GatewaySpec, Launch, Upstream
from routers.policies import POLICIES
from tests.routers.gateways.specs import PAIRS, POOL, spec

PROGRAM, FOLDER = Path("/programs/it"), Path("/cells/c1")


def launched(name: str, *given: Any, **more: Any) -> Launch:
    return find_gateway(name).launch(spec(*given, **more), PROGRAM, FOLDER)


def text_of(launch: Launch) -> str:
    (text,) = launch.files.values()
    return text


def option(launch: Launch, flag: str) -> str:
    return launch.command[launch.command.index(flag) + 1]


@pytest.mark.parametrize("name", GATEWAYS)
def test_every_policy_and_arm_gives_a_command_and_no_port_but_its_own(name: str) -> None:
    gateway = find_gateway(name)
    for policy in gateway.policies:
        for arm in ("default", "bare"):
            launch = gateway.launch(spec(policy, arm=arm), PROGRAM, FOLDER)
            whole = " ".join(launch.command) + " ".join(launch.files.values())
            assert launch.command[0] == str(PROGRAM)
            for needed in ("127.0.0.1", "9101", "8001", "8002"):
                assert needed in whole
            assert "0.0.0.0" not in whole


def test_the_names_of_the_arms_without_a_gateway_are_no_gateways() -> None:
    assert not {DIRECT, PASS_THROUGH} & set(GATEWAYS)
    assert PASS_THROUGH_POLICY in POLICIES


@pytest.mark.parametrize("name", ["sglang_router", "vllm_router"])
def test_the_wheels_bare_arm_turns_both_loops_off(name: str) -> None:
    off = {"--disable-circuit-breaker", "--disable-retries"}
    assert not off & set(launched(name, "cache_aware").command)
    assert off <= set(launched(name, "cache_aware", arm="bare").command)


@pytest.mark.parametrize("name", ["sglang_router", "vllm_router"])
def test_parameters_become_the_wheels_own_flags_and_the_rest_stays_theirs(name: str) -> None:
    launch = launched(name, "cache_aware", cache_threshold=0.5, queue_size=7, cb_timeout_duration_secs=5)
    assert (option(launch, "--cache-threshold"), option(launch, "--queue-size")) == ("0.5", "7")
    assert option(launch, "--cb-timeout-duration-secs") == "5"
    assert option(launch, "--request-timeout-secs") == "60"
    assert "--balance-abs-threshold" not in launch.command
    assert launch.metrics_url == "http://127.0.0.1:9102/metrics"


def test_pairs_are_named_by_role_with_sglangs_bootstrap_port() -> None:
    command = launched("sglang_router", "cache_aware", PAIRS, decode_policy="round_robin").command
    tail = (
        "--pd-disaggregation --prefill http://127.0.0.1:8001 8998 --prefill http://127.0.0.1:8002 --decode http://127.0.0.1:8003"
    )
    assert tail in " ".join(command)
    assert "--worker-urls" not in command
    assert "--decode-policy round_robin" in " ".join(command)


def test_vllms_pairs_are_ready_when_both_kinds_are() -> None:
    pairs = tuple(Upstream(r.url, r.role, "vllm") for r in PAIRS)
    launch = launched("vllm_router", "round_robin", pairs, kv_connector="nixl")
    assert "--vllm-pd-disaggregation" in launch.command
    assert launch.ready_counts == ("prefill.healthy", "decode.healthy")
    assert launched("vllm_router", "round_robin").ready_counts == ("healthy_workers",)


def test_our_name_for_vllms_sticky_rule_is_translated() -> None:
    assert option(launched("vllm_router", "sticky_least_sessions"), "--policy") == "sticky_least_loaded"


def test_power_of_two_is_reported_as_random_unless_every_replica_is_sglang() -> None:
    gateway = find_gateway("sglang_router")

    def reported(*engines: str) -> str:
        pool = tuple(Upstream(f"http://h:{8000 + i}", engine=engine) for i, engine in enumerate(engines))
        return gateway.reported_policy(spec("power_of_two", pool))

    assert reported("sglang", "sglang") == "power_of_two"
    assert reported("vllm", "vllm").startswith("random")
    assert reported("sglang", "vllm").startswith("random")
    assert reported("", "").startswith("random")
    assert gateway.reported_policy(spec("round_robin")) == "round_robin"


def test_nginx_streams_unbuffered_over_kept_connections() -> None:
    text = text_of(launched("nginx", "least_outstanding", processes=2))
    for line in (
        "proxy_buffering off;",
        "proxy_http_version 1.1;",
        'proxy_set_header Connection "";',
        "least_conn;",
        "keepalive 1024;",
    ):
        assert line in text
    assert "worker_processes 2;" in text
    assert text.count("{") == text.count("}")


def test_nginx_bare_arm_forgets_failures_and_tries_once() -> None:
    default, bare = (text_of(launched("nginx", "round_robin", arm=arm)) for arm in ("default", "bare"))
    assert "max_fails" not in default
    assert "proxy_next_upstream" not in default
    assert bare.count("max_fails=0") == len(POOL)
    assert "proxy_next_upstream off;" in bare


def test_haproxy_arms_and_switches() -> None:
    default, bare = (text_of(launched("haproxy", "round_robin", arm=arm)) for arm in ("default", "bare"))
    assert "retries" not in default
    assert "abortonclose" not in default
    assert "retries 0" in bare
    assert "option abortonclose" in text_of(launched("haproxy", "round_robin", abort_on_close=True))
    bounded = text_of(launched("haproxy", "consistent_hash_bounded", hash_balance_factor=150))
    assert "hash-balance-factor 150" in bounded
    assert "balance hdr(x-session-id)" in bounded


def test_envoy_says_its_rule_and_its_bounds() -> None:
    def cluster(*given: Any, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(text_of(launched("envoy", *given, **more)))["static_resources"]["clusters"][0]
        return found

    assert cluster("maglev")["lb_policy"] == "MAGLEV"
    assert cluster("power_of_two")["least_request_lb_config"] == {"choice_count": 2}
    assert "circuit_breakers" not in cluster("round_robin")
    assert cluster("round_robin", arm="bare")["circuit_breakers"]["thresholds"][0]["max_requests"] > 1_000_000
    bounded = cluster("consistent_hash_bounded", hash_balance_factor=130)
    assert bounded["common_lb_config"]["consistent_hashing_lb_config"]["hash_balance_factor"] == 130
    assert cluster("round_robin", (Upstream("http://host:1"),))["type"] == "STRICT_DNS"
    assert cluster("round_robin")["type"] == "STATIC"


@pytest.mark.parametrize(
    ("name", "given", "more", "said"),
    [
        ("nginx", ("cache_aware",), {}, "nginx: policy = 'cache_aware' is not allowed; it must be one of: round_robin, random"),
        ("nginx", ("random", PAIRS), {}, "nginx: it cannot serve a pool of prefill and decode replicas"),
        ("haproxy", ("random",), {"threads": 0}, "haproxy: threads = 0 is not allowed; it must be at least 1"),
        ("envoy", ("maglev",), {"hash_balance_factor": 100}, "envoy: hash_balance_factor = 100 is not allowed"),
        ("nginx", ("random",), {"threads": 2}, "nginx: unknown parameter 'threads'; allowed: processes"),
        ("vllm_router", ("random",), {"queue_sise": 1}, "vllm_router: unknown parameter 'queue_sise'"),
        ("sglang_router", ("random",), {"kv_connector": "nixl"}, "sglang_router: unknown parameter 'kv_connector'"),
        ("sglang_router", ("consistent_hash",), {}, "sglang_router: policy = 'consistent_hash' is not allowed"),
        ("haproxy", ("random", (Upstream("https://h:1"),)), {}, "url = 'https://h:1' is not allowed behind this gateway"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(name: str, given: tuple[Any, ...], more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"not allowed|unknown|cannot") as raised:
        launched(name, *given, **more)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "http://", "http://h:1/path", "ftp://h:1", "http://h:99999", "http://[::1"])
def test_a_replicas_url_is_host_and_port(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be http://host:port"):
        Upstream(url)


def test_a_specification_needs_replicas_of_matching_roles_and_a_known_arm() -> None:
    with pytest.raises(ValueError, match="at least one replica"):
        GatewaySpec("random", (), 1, 2)
    with pytest.raises(ValueError, match="roles = both, prefill is not allowed"):
        GatewaySpec("random", (POOL[0], PAIRS[0]), 1, 2)
    with pytest.raises(ValueError, match="arm = 'off' is not allowed; it must be one of: default, bare"):
        GatewaySpec("random", POOL, 1, 2, "off")


def test_an_unknown_gateway_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="unknown gateway 'traefik'; allowed: envoy, haproxy, nginx, sglang_router, vllm_router"):
        find_gateway("traefik")


def test_names_and_classes_agree() -> None:
    assert all(issubclass(kind, Gateway) and kind.name == name for name, kind in GATEWAYS.items())
