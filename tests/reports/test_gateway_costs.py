"""What stands in front of a live pool costs what the direct arm does not, and hits are those that engines count."""

from dataclasses import replace

import pytest

from reports.gateway_costs import gateway_costs
from reports.gateway_tables import cost_part, signed
from reports.prefix_shares import prefix_shares
from reports.read_scene import enter
from tests.reports.conftest import Results


def test_seconds_with_their_sign() -> None:
    assert [signed(v) for v in (0.0012, -0.3, 0.0)] == ["+1.2 ms", "−300 ms", "+0 s"]


def test_a_gateways_cost_is_its_difference_to_direct_on_the_same_requests(live_results: Results) -> None:
    con, scenes = live_results
    enter(con, scenes[0].pool)
    costs = {scenes[0].router(c.router).label: c for c in gateway_costs(con)}
    assert [c.kind for c in costs.values()] == ["direct", "pass-through", "our router", "gateway"]
    nginx = costs["nginx: round_robin"]
    assert nginx.added["ttft_p50_s"].mean == pytest.approx(0.005, abs=1e-6)
    assert costs["round_robin"].added["ttft_p50_s"].mean == pytest.approx(0.020, abs=1e-6)
    assert costs["direct"].added == {}
    attempts = con.sql("""SELECT count(*) FROM attempts JOIN cell_facts USING (cell_id)
                          WHERE gateway = 'nginx' AND client_attempt >= 1""").fetchall()[0][0]
    assert nginx.cpu_s_per_request == pytest.approx(4 * 1.5 / attempts)
    assert nginx.rewriting is not None
    assert [(c.change, c.forms) for c in nginx.rewriting] == [("dropped", ("chat", "completion")), ("added", ("chat",))]
    part = cost_part(scenes[0], list(costs.values()))
    assert part is not None
    row = next(r for r in part.table.rows if r.cells[0].text == "nginx: round_robin")
    shown = [cell.text for cell in row.cells]
    assert shown[1:5] == ["nginx, default", "nginx/1.22.1", "round robin, weighted (asked: round_robin)", "+5 ms"]
    assert shown[-1] == "1 dropped, 1 added"


def test_without_a_direct_arm_nothing_is_said_of_added_time(live_results: Results) -> None:
    con, scenes = live_results
    enter(con, scenes[0].pool)
    costs = [replace(c, added={}) for c in gateway_costs(con) if c.kind != "direct"]
    part = cost_part(scenes[0], costs)
    assert part is not None
    assert part.sentence == "No direct arm was run, so what these add to TTFT is not known."
    assert cost_part(scenes[2], costs) is None


def test_prefix_hits_by_policy_beside_the_simulations(live_results: Results) -> None:
    con, scenes = live_results
    enter(con, scenes[0].pool)
    found = {scenes[0].router(s.router).label: s for s in prefix_shares(con)}
    assert {name: s.measured.mean for name, s in found.items()} == pytest.approx(
        {"direct": 0.3, "round_robin": 0.3, "cache_aware": 0.8, "nginx: round_robin": 0.3}
    )
    simulated = found["cache_aware"].simulated
    assert simulated == pytest.approx(0.6, abs=1e-3)
    assert found["nginx: round_robin"].simulated is None
    assert (found["cache_aware"].hit_tokens, found["cache_aware"].query_tokens) == (4 * 4 * 800, 4 * 4 * 1000)
