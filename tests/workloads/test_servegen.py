"""ServeGen: traces drawn from published parameters of clients; nothing is fitted to a count, and fields are independent."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workloads.traces import slice_file
from workloads.sources.servegen import windows
from workloads.sources.servegen.generation import ClientArrivals, equilibrium_gap, unit_cv, unit_gaps
from workloads.sources.servegen.histograms import TokenLengths
from workloads.sources.servegen.windows import ClientWindows, clients
from workloads.trace import import_trace, load_trace
from workloads.trace_table import Trace

PARQUET = "servegen/all_clients_windows_day0.parquet"
Row = tuple[float, float, str, float]  # rate, cv, family, shape
EVEN: dict[str, object] = {"input_tokens": "{10: 0.5, 1000: 0.5}", "output_tokens": "{1: 0.5, 500: 0.5}"}


def write_client(folder: Path, number: int, rows: Sequence[Row], lengths: object = None) -> Path:
    """A client's two files: one row a window of 600 s, one step of lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{600 * i},{rate},{cv},{family},{shape},{1 if family else 0}" for i, (rate, cv, family, shape) in enumerate(rows)]
    (folder / f"chunk-{number}-trace.csv").write_text("\n".join(lines) + "\n")
    (folder / f"chunk-{number}-dataset.json").write_text(json.dumps({"0": EVEN} if lengths is None else lengths, indent=2))
    return folder


def client_of(rows: Sequence[Row], folder: Path) -> ClientWindows:
    return next(clients(write_client(folder, 0, rows)))


def drawn(folder: Path, seed: int = 0, **columns: str) -> Trace:
    return load_trace(str(folder), seed=seed, columns=columns)


def cv(values: Any) -> float:
    return float(values.std() / values.mean())


@pytest.mark.parametrize(("family", "shape"), [(1, 0.5), (1, 4.0), (2, 0.6), (2, 2.0)])
def test_gaps_have_mean_one_and_the_cv_of_their_law(family: int, shape: float) -> None:
    gaps = unit_gaps(family, shape, 400_000, np.random.default_rng(1))
    assert gaps.mean() == pytest.approx(1.0, rel=0.01)
    assert cv(gaps) == pytest.approx(unit_cv(family, shape), rel=0.02)


@pytest.mark.parametrize(("family", "shape"), [(1, 0.5), (1, 4.0), (2, 0.6), (2, 2.0)])
def test_the_first_gap_is_that_of_any_moment(family: int, shape: float) -> None:
    """The mean of the equilibrium law is (1 + CV²) / 2."""
    draw = np.random.default_rng(1)
    gaps = np.array([equilibrium_gap(family, shape, draw) for _ in range(40_000)])
    assert gaps.mean() == pytest.approx((1 + unit_cv(family, shape) ** 2) / 2, rel=0.04)


@pytest.mark.parametrize(("family", "shape"), [("Gamma", 0.4), ("Gamma", 1.0), ("Weibull", 0.7), ("Gamma", 9.0)])
def test_a_window_has_its_rate_and_its_cv(tmp_path: Path, family: str, shape: float) -> None:
    """Over many draws: the mean count is the rate's, also in the first and the last window; the counts vary freely."""
    client = client_of([(2.0, 1.0, family, shape)] * 3, tmp_path)
    counts, gaps = [], []
    for seed in range(300):
        arrivals = ClientArrivals(client, np.random.default_rng(seed))
        times = [arrivals.times(i, 0.0, 1800.0) for i in range(3)]
        counts.append([len(t) for t in times])
        assert all(((t >= 600 * i) & (t < 600 * (i + 1))).all() for i, t in enumerate(times))
        gaps.append(np.diff(np.concatenate(times)))
    law = unit_cv(1 if family == "Gamma" else 2, shape)
    error = 4 * law * math.sqrt(1200) / math.sqrt(300)
    assert np.mean(counts, axis=0) == pytest.approx([1200.0] * 3, abs=error)
    assert np.var(np.array(counts)[:, 1]) == pytest.approx(1200 * law**2, rel=0.35), "no count is forced"
    assert cv(np.concatenate(gaps)) == pytest.approx(law, rel=0.02)
    assert np.concatenate(gaps).min() >= 0


def test_windows_are_joined_and_silence_costs_nothing(tmp_path: Path) -> None:
    """Gaps of CV 1/30: were each window begun anew, the gap across its edge would be a random one."""
    client = client_of([(0.01, 0.03, "Gamma", 900.0), (0, 0, "", 0), (0.02, 0.03, "Gamma", 900.0)], tmp_path)
    arrivals = ClientArrivals(client, np.random.default_rng(5))
    times = np.concatenate([arrivals.times(i, 0.0, 1800.0) for i in range(3)])
    operational = np.where(times < 600, times * 0.01, 6 + (times - 1200) * 0.02)
    assert len(times) in (17, 18, 19)
    assert not ((times >= 600) & (times < 1200)).any()
    assert np.diff(operational) == pytest.approx(np.ones(len(times) - 1), abs=0.2)


def test_a_trace_is_the_superposition_of_its_clients(tmp_path: Path) -> None:
    write_client(tmp_path, 4, [(1.0, 1.0, "Gamma", 1.0)] * 6)
    write_client(tmp_path, 0, [(0, 0, "", 0), *[(3.0, 1.0, "Weibull", 1.0)] * 5])
    trace = drawn(tmp_path)
    assert trace.provenance["synthetic"]
    assert not trace.provenance["has_sessions"]
    assert trace.provenance["rows_read"] == 12
    assert trace.provenance["rows_dropped"] == {"window without traffic": 1}
    assert trace.provenance["rows_changed"] == {}, "tables come in time order"
    assert np.bincount(trace.tenant).tolist() == pytest.approx([9000, 0, 0, 0, 3600], abs=4 * math.sqrt(9000))
    assert (trace.start_s[trace.tenant == 0] + 1e-6 >= 600 - trace.provenance["first_start_us"] / 1e6).all()
    assert set(trace.user_tokens.tolist()) == {10, 1000}
    assert set(trace.reply_tokens.tolist()) == {1, 500}


def test_input_and_output_are_drawn_independently(tmp_path: Path) -> None:
    write_client(tmp_path, 1, [(5.0, 1.0, "Gamma", 1.0)] * 6)
    trace = drawn(tmp_path)
    n = len(trace)
    assert n > 15_000
    ranks = np.corrcoef(trace.user_tokens == 1000, trace.reply_tokens == 500)[0, 1]
    assert abs(ranks) < 4 / math.sqrt(n)
    assert float((trace.user_tokens == 1000).mean()) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(n))


def test_a_seed_draws_the_same_and_one_client_more_moves_no_other(tmp_path: Path) -> None:
    write_client(tmp_path, 1, [(1.0, 1.0, "Gamma", 0.5)] * 6)
    one, again, other = drawn(tmp_path, 1), drawn(tmp_path, 1), drawn(tmp_path, 2)
    assert one.table.equals(again.table)
    assert not one.table.equals(other.table)
    write_client(tmp_path, 2, [(1.0, 1.0, "Gamma", 0.5)] * 6)
    mixed = drawn(tmp_path, 1)
    of_first = mixed.table.filter(mixed.tenant == 1)
    assert of_first.equals(one.table)


def test_thinning_keeps_a_share_of_the_requests(tmp_path: Path) -> None:
    """Share p of a renewal process has CV² = 1 + p (CV² − 1)."""
    write_client(tmp_path, 1, [(20.0, 2.0, "Gamma", 0.25)] * 6)
    all_of_it, part = drawn(tmp_path), drawn(tmp_path, rate="0.25")
    starts = set((all_of_it.start_s * 1e6).round() + all_of_it.provenance["first_start_us"])
    assert set((part.start_s * 1e6).round() + part.provenance["first_start_us"]) <= starts
    assert len(part) / len(all_of_it) == pytest.approx(0.25, abs=0.01)
    assert cv(np.diff(all_of_it.start_s)) == pytest.approx(2.0, rel=0.05)
    assert cv(np.diff(part.start_s)) == pytest.approx(math.sqrt(1 + 0.25 * 3), rel=0.05)


def test_lengths_follow_the_step_of_six_hours(tmp_path: Path) -> None:
    late = {"input_tokens": "{7: 1.0}", "output_tokens": "{8: 1.0}"}
    write_client(tmp_path, 1, [(1.0, 1.0, "Gamma", 1.0)] * 48, {"0": EVEN, "21600": late})
    trace = drawn(tmp_path, begin_s="21000", end_s="22200")
    at_s = trace.start_s + trace.provenance["first_start_us"] / 1e6
    assert ((trace.user_tokens == 7) == (at_s >= 21_600)).all()
    assert at_s.min() >= 21_000
    assert at_s.max() < 22_200


def test_clients_without_lengths_are_left_out_and_counted(tmp_path: Path) -> None:
    write_client(tmp_path, 1, [(1.0, 1.0, "Gamma", 1.0)] * 2)
    write_client(tmp_path, 2, [(1.0, 1.0, "Gamma", 1.0)] * 2, {"0": {"input_tokens": "{}", "output_tokens": "{}"}})
    write_client(tmp_path, 3, [(1.0, 1.0, "Gamma", 1.0)] * 2)
    (tmp_path / "chunk-3-dataset.json").unlink()
    trace = drawn(tmp_path)
    assert set(trace.tenant.tolist()) == {1}
    assert trace.provenance["rows_dropped"] == {"window of a client without token lengths": 4}


def test_a_span_without_a_request_is_refused(tmp_path: Path) -> None:
    write_client(tmp_path, 1, [(1.0, 1.0, "Gamma", 1.0)] * 2, {})
    with pytest.raises(ValueError, match="no request was drawn within seconds 0 to 3600: too little traffic, or clients without"):
        drawn(tmp_path)


def test_by_default_the_busiest_hour_of_the_first_day_is_drawn(tmp_path: Path) -> None:
    rates = [0.1] * 12 + [0.5] * 6 + [0.1] * (288 - 18)
    rates[200] = 9.0  # on the second day
    write_client(tmp_path, 1, [(r, 1.0, "Gamma", 1.0) for r in rates])
    trace = drawn(tmp_path)
    assert "seconds 7200 to 10800" in trace.provenance["notes"][0]
    assert trace.provenance["rows_dropped"] == {"window outside begin_s … end_s": 282}
    assert len(trace) == pytest.approx(1800, abs=200)


def test_the_default_is_cut_at_a_million_requests(tmp_path: Path) -> None:
    write_client(tmp_path, 1, [(1000.0, 1.0, "Gamma", 1.0)] * 6)
    trace = drawn(tmp_path, rate="0.5")
    assert len(trace) == pytest.approx(1_000_000, rel=0.01)
    assert "seconds 0 to 2000" in trace.provenance["notes"][0]


def test_one_of_several_models_is_named(tmp_path: Path) -> None:
    for model, rate in (("language/m-small", 1.0), ("reason/r1", 2.0)):
        write_client(tmp_path / "data" / model, 1, [(rate, 1.0, "Gamma", 1.0)] * 6)
    with pytest.raises(ValueError, match=r"columns.model is None; allowed: language/m-small, reason/r1"):
        drawn(tmp_path)
    assert len(drawn(tmp_path / "data", model="r1")) == pytest.approx(7200, abs=400)
    write_client(tmp_path / "data" / "language" / "m-large", 1, [(4.0, 1.0, "Gamma", 1.0)] * 6)
    assert "clients of language/m-large" in drawn(tmp_path).provenance["notes"][0]
    assert len(drawn(tmp_path, model="reason/r1")) == pytest.approx(7200, abs=400)


def test_it_imports_to_a_file_in_order(tmp_path: Path) -> None:
    write_client(tmp_path / "m", 1, [(1.0, 1.0, "Gamma", 1.0)] * 6)
    import_trace("servegen", tmp_path / "m", tmp_path / "out.parquet", seed=3)
    trace = load_trace(str(tmp_path / "out.parquet"))
    assert trace.table.column("start_us").equals(drawn(tmp_path / "m", 3).table.column("start_us"))
    assert trace.provenance["rows_changed"] == {}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"hours": "1"}, "columns.hours is no parameter of servegen; allowed: model, begin_s, end_s, rate"),
        ({"begin_s": "x"}, "columns.begin_s is 'x'; allowed: a number ≥ 0"),
        ({"begin_s": "nan"}, "columns.begin_s is 'nan'"),
        ({"rate": "0"}, "columns.rate is '0'; allowed: a share > 0 and ≤ 1"),
        ({"rate": "1.5"}, "columns.rate is '1.5'"),
        ({"begin_s": "900", "end_s": "900"}, "no client has traffic within seconds 900 to 900"),
        ({"begin_s": "99999"}, "no client has traffic within seconds 99999 to 103599"),
        ({"model": "x"}, "columns.model is 'x'; allowed: "),
    ],
)
def test_bad_parameters_are_named(tmp_path: Path, columns: dict[str, str], said: str) -> None:
    write_client(tmp_path, 1, [(1.0, 1.0, "Gamma", 1.0)] * 6)
    with pytest.raises(ValueError, match=said):
        load_trace(str(tmp_path), columns=columns)


def test_more_requests_than_anyone_wants_are_refused(tmp_path: Path) -> None:
    write_client(tmp_path, 1, [(9999.0, 1.0, "Gamma", 1.0)] * 100)
    with pytest.raises(ValueError, match=r"about 6e\+08 requests within begin_s … end_s; allowed: up to 100,000,000"):
        drawn(tmp_path, begin_s="0", end_s="60000")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("600,1,1,Gamma,1", "'600,1,1,Gamma,1'; expected start_s,rate,cv,pattern"),
        ("600,1,1,Pareto,1,1", "'600,1,1,Pareto,1,1'; expected start_s"),
        ("0,1,1,Gamma,1,1", "window_start_s is '0'; expected multiples of 600, ascending"),
        ("601,1,1,Gamma,1,1", "window_start_s is '601'; expected multiples of 600"),
        ("600,-1,1,Gamma,1,1", "rate is '-1'; expected a number"),
        ("600,1e9,1,Gamma,1,1", "rate is '1e9'; expected a number ≥ 0 and < 10000"),
        ("600,1,nan,Gamma,1,1", "cv is 'nan'"),
        ("600,1,1,Weibull,0.01,1", "shape is '0.01'; expected ≥ 0.1 for Weibull"),
        ("600,1,1,Gamma,1,inf", "scale is 'inf'"),
        ("6" * 5000, "a line of more than 4096 bytes"),
    ],
)
def test_a_malformed_window_is_named_by_its_line(tmp_path: Path, line: str, said: str) -> None:
    write_client(tmp_path, 1, [(1.0, 1.0, "Gamma", 1.0)])
    path = tmp_path / "chunk-1-trace.csv"
    path.write_text(path.read_text() + line)
    with pytest.raises(ValueError, match=f"chunk-1-trace.csv:2: {said}"):
        drawn(tmp_path)


@pytest.mark.parametrize(
    ("literal", "said"),
    [
        ("__import__('os').system('true')", 'is ".*; expected a text'),
        ("{1: 0.5, 2: 0.4}", "sums to 0.9; expected probabilities that sum to 1"),
        ("{-1: 1.0}", "holds -1: 1.0; expected whole tokens and a probability"),
        ("{1.5: 1.0}", "holds 1.5: 1.0"),
        ("{1: 1e999}", "holds 1: inf"),
        ("{1: 1.0", "is '{1: 1.0'; expected {tokens: probability"),
        ("{" * 5000, "is '{{"),
        ("+" * 100_000 + "1", "is '\\+\\+"),
        ("1", "is '1'; expected {tokens"),
        ("", "is ''; expected"),
        (None, "is 'None'; expected a text"),
    ],
)
def test_a_malformed_histogram_is_named_by_its_step(tmp_path: Path, literal: object, said: str) -> None:
    write_client(tmp_path, 1, [(1.0, 1.0, "Gamma", 1.0)], {"0": EVEN | {"input_tokens": literal}})
    with pytest.raises(ValueError, match=f"chunk-1-dataset.json:2: input_tokens of step 0 {said}") as raised:
        drawn(tmp_path)
    assert len(str(raised.value).split("chunk-1")[1]) < 200


def test_a_malformed_dataset_is_named(tmp_path: Path) -> None:
    for lengths, said in (({"x": EVEN}, "expected an object of steps"), ([1], "expected an object"), ({"0": 1}, "step 0 is '1'")):
        write_client(tmp_path, 1, [(1.0, 1.0, "Gamma", 1.0)], lengths)
        with pytest.raises(ValueError, match=f"chunk-1-dataset.json:[12]: .*{said}"):
            drawn(tmp_path)


def test_the_file_of_rates_alone_is_no_trace() -> None:
    with pytest.raises(ValueError, match=r"parquet: holds rates only, no token lengths; give the folder"):
        load_trace(str(slice_file(PARQUET)))


def model_folder(name: str) -> Path:
    return slice_file(PARQUET).parent / "data" / name


MODELS = [
    ("language/m-small", 37, 2024, (1.19, 4.60, 2.74), {"Gamma": 1420, "Weibull": 604}, (219, 25)),
    ("reason/deepseek-r1", 6, 217, (1.01, 3.41, 1.78), {"Gamma": 180, "Weibull": 37}, (524, 633)),
]


@pytest.mark.parametrize(("model", "number", "active", "cvs", "patterns", "tokens"), MODELS)
def test_statistics_equal_those_measured_independently(
    model: str, number: int, active: int, cvs: Any, patterns: dict[str, int], tokens: tuple[int, int]
) -> None:
    table = windows(model_folder(model))
    busy = table.filter(table["family"] != "")
    assert (table["client"].n_unique(), busy.height) == (number, active)
    spread, rate = busy["cv"].to_numpy(), busy["rate_rps"].to_numpy()
    found = (np.median(spread), np.quantile(spread, 0.9), (spread * rate).sum() / rate.sum())
    assert tuple(round(float(v), 2) for v in found) == cvs
    assert dict(busy["family"].value_counts().iter_rows()) == patterns
    assert mean_tokens(model_folder(model)) == tokens


def mean_tokens(folder: Path) -> tuple[int, int]:
    """Means of all histograms of all steps, weighted by the client's rate over the day."""
    sums = np.zeros(3)
    for client in clients(folder):
        lengths = TokenLengths(client.dataset)
        for step in lengths.steps:
            asked, answered = lengths.at(step, "input_tokens"), lengths.at(step, "output_tokens")
            if asked and answered:
                sums += client.rate_rps.mean() * np.array([asked.mean, answered.mean, 1.0])
    return round(sums[0] / sums[2]), round(sums[1] / sums[2])


@pytest.mark.parametrize("model", [m[0] for m in MODELS])
def test_the_file_of_all_clients_agrees_with_the_folders(model: str) -> None:
    ours, theirs = windows(model_folder(model)), windows(slice_file(PARQUET))
    category, _, name = model.partition("/")
    chosen = theirs.filter((theirs["category"] == category) & (theirs["model"] == name))
    both = ours.join(chosen, on=["client", "begin_s"], how="left", suffix="_there").sort("client", "begin_s")
    assert both["family"].equals(both["family_there"].rename("family"))
    for column in ("rate_rps", "cv", "shape", "scale_s"):
        assert both[column].to_numpy() == pytest.approx(both[f"{column}_there"].to_numpy(), rel=1e-5)


def test_real_clients_come_out_at_their_rates_and_lengths() -> None:
    """An hour of six clients: every client's count lies within the spread that its law allows."""
    folder = model_folder("reason/deepseek-r1")
    trace = drawn(folder, seed=7)
    assert "seconds 79200 to 82800" in trace.provenance["notes"][0]
    for client in clients(folder):
        inside = (client.begin_s >= 79_200) & (client.begin_s < 82_800)
        expected = 600 * client.rate_rps[inside]
        laws = [unit_cv(int(f), float(s)) for f, s in zip(client.family[inside], client.shape[inside], strict=True) if f]
        allowed = 5 * math.sqrt(sum(n * law**2 for n, law in zip(expected[expected > 0], laws, strict=True))) + 1
        made = trace.tenant == client.client
        assert made.sum() == pytest.approx(expected.sum(), abs=allowed)
        if made.sum() > 5000:
            lengths = TokenLengths(client.dataset)
            asked, answered = lengths.at(79_200, "input_tokens"), lengths.at(79_200, "output_tokens")
            assert asked is not None
            assert answered is not None
            assert trace.user_tokens[made].mean() == pytest.approx(asked.mean, rel=0.05)
            assert trace.reply_tokens[made].mean() == pytest.approx(answered.mean, rel=0.05)
            ranks = np.corrcoef(ranked(trace.user_tokens[made]), ranked(trace.reply_tokens[made]))[0, 1]
            assert abs(ranks) < 4 / math.sqrt(made.sum())


def ranked(values: Any) -> Any:
    return np.searchsorted(np.sort(values), values)
