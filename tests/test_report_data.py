"""Data of a report: reading of run folders, also damaged ones; factors, effects, verdicts and notes."""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medsynth.errors import InputError
from medsynth.report.columns import NUM_FAKE, NUM_REAL
from medsynth.report.effects import better, differences, effects, pareto, seed_spread
from medsynth.report.factors import factors, value_of
from medsynth.report.interaction import interaction
from medsynth.report.notes import notes
from medsynth.report.run import Run
from medsynth.report.runs import choices, read_run, read_runs
from medsynth.report.summary import summary_text
from medsynth.report.verdict import verdict
from tests.run_folders import OBJECTIVE, make_curves, write_run, write_sweep

LOSSES = {"loss": ["hinge", "non_saturating"], "seed": [1, 2, 3]}


def sweep(folder, grid, **options):
    write_sweep(folder, grid, samples=False, **options)
    return read_runs([folder])


def listed(values):
    """Return a ``value`` for write_sweep that takes the numbers in the order of the jobs."""
    remaining = iter(values)
    return lambda options: next(remaining)


def runs_without_folders(values, **constant):
    """Return runs by their typed options, ``{(("loss", "hinge"), ("seed", "1")): objective}``."""
    return [
        Run(
            folder=Path(f"/nowhere/{number}"),
            number=number,
            name=",".join(f"{key}={value}" for key, value in typed),
            status="completed",
            reason=None,
            options={"seed": dict(typed).get("seed", "0"), "objective": OBJECTIVE, **constant},
            summary={"best": {"objective": OBJECTIVE, "value": value}},
            choices=dict(typed),
        )
        for number, (typed, value) in enumerate(values.items())
    ]


class TestReading:
    def test_a_completed_run(self, tmp_path):
        run = read_run(write_run(tmp_path / "a", options={"loss": "hinge", "seed": 1}, value=7.5))
        assert (run.name, run.number, run.status, run.reason) == ("a", None, "completed", None)
        assert (run.objective, run.best, run.final, run.seconds, run.images_seen) == (OBJECTIVE, 7.5, 7.5, 60.0, 40_000)
        assert run.options["loss._target_"] == "medsynth.loss.hinge.Hinge"
        assert run.options["seed"] == 1
        assert run.options["loss.betas"] == "[0.5, 0.999]"
        assert run.choices == {"loss": "hinge", "seed": "1"}
        places = [key for key, value in run.options.items() if str(tmp_path) in str(value)]
        assert not places
        assert not {key.split(".")[0] for key in run.options} & {"run_dir", "overrides", "sweep"}
        assert run.curves[OBJECTIVE] == ([10_000, 20_000, 30_000, 40_000], [18.75, 15.0, 11.25, 7.5])
        assert list(run.samples) == [10_000, 20_000, 30_000, 40_000]
        assert run.real_samples.name == "real.png"
        assert run.log_tail[-1].endswith("Done.")
        assert run.damaged == ()

    def test_other_metrics_are_those_of_the_exported_generator(self, tmp_path):
        curves = make_curves(7.0)
        curves[OBJECTIVE] = ([10_000, 20_000, 30_000], [9.0, 7.0, math.nan])
        curves["val/kd_mini"] = ([10_000, 20_000, 30_000], [3.0, 2.0, 1.0])
        best = {"objective": OBJECTIVE, "value": 7.0, "images_seen": 20_000}
        run = read_run(write_run(tmp_path / "a", options={}, curves=curves, metrics={}, best=best))
        assert run.value("val/kd_mini") == 2.0
        assert run.value("parameters.generator") == 1e6
        assert run.value("seconds") == 60
        assert (run.best, run.final) == (7.0, 7.0)
        assert run.value("val/unknown") is None

    @pytest.mark.parametrize("status", ["failed", "diverged", "stopped", "killed", "running"])
    def test_a_run_that_did_not_complete(self, tmp_path, status):
        reason = {"killed": "its process ended without recording why", "running": None}.get(status, "It broke.")
        run = read_run(write_run(tmp_path / "a", options={"seed": 1}, status=status, reason="It broke.", value=4.0))
        assert (run.status, run.reason, run.images_seen) == (status, reason, 20_000)
        assert run.best == 8.0  # half-way

    def test_a_sweep(self, tmp_path):
        failures = {1: ("killed", "killed by SIGKILL"), 2: ("missing", None), 5: ("duplicate", None)}
        runs = sweep(tmp_path / "s", LOSSES, failures=failures)
        assert [run.number for run in runs] == list(range(6))
        assert [run.status for run in runs] == ["completed", "killed", "missing", "completed", "completed", "duplicate"]
        assert [run.name for run in runs[1:3]] == ["loss=hinge,seed=2", "loss=hinge,seed=3"]
        assert runs[1].reason == "killed by SIGKILL"
        assert runs[2].choices == {"loss": "hinge", "seed": "3"}
        assert runs[0].swept == ("loss", "seed")

    def test_each_run_of_several_folders_is_read_once(self, tmp_path):
        for name in ("first", "second"):
            write_sweep(tmp_path / name, {"seed": [1, 2]}, samples=False)
        alone = write_run(tmp_path / "alone", options={}, samples=False)
        runs = read_runs([tmp_path / "first", tmp_path / "first" / "0", tmp_path / "second", alone, alone])
        assert [run.name for run in runs] == [
            "first/seed=1",
            "first/seed=2",
            "second/seed=1",
            "second/seed=2",
            "alone",
        ]

    def test_equal_names_within_a_sweep(self, tmp_path):
        for number in (0, 1):
            job = {"number": number, "name": "lr=1", "status": "completed"}
            write_run(tmp_path / "s" / str(number), options={"lr": 1}, job=job, samples=False)
        assert [run.name for run in read_runs([tmp_path / "s"])] == ["lr=1 (0)", "lr=1 (1)"]

    def test_folders_without_runs(self, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "foreign" / "0").mkdir(parents=True)
        (tmp_path / "foreign" / "config.yaml").write_text("a: 1\n")
        for name in ("empty", "foreign", "missing"):
            with pytest.raises(InputError, match=rf"{name} (has no runs|is not a folder): .*\.$"):
                read_runs([tmp_path / name])
        with pytest.raises(InputError, match=r"^[^.]*empty is not the folder of a run"):
            read_run(tmp_path / "empty")
        with pytest.raises(InputError, match="No folder"):
            read_runs([])

    def test_summaries_and_evaluations_of_version_0_1(self, tmp_path):
        folder = write_run(tmp_path / "a", options={}, weights={"generator": 7})
        measure = {"name": "is_mini", "better": "floor", "floor": 2.0, "num_floor": [5, 5]}
        sides = {side: {"source": "a", "count": 5} for side in ("real", "fake")}
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "a.json").write_text(json.dumps({**sides, "measures": [measure]}))
        run = read_run(folder)
        assert run.value("parameters.generator") == 7
        renamed = {"name": "is_mini", "better": "baseline", "baseline": 2.0, "num_baseline": [5, 5]}
        assert run.evaluations[0]["measures"] == [renamed]

    def test_choices(self):
        typed = [
            "+loss.weight=2",
            "~penalty",
            "seed=1",
            "seed=2",
            "++a=b=c",
            "hydra.run.dir=x",
            "sweep.keep=all",
            "vary=seeds",
        ]
        assert choices(typed) == {"loss.weight": "2", "penalty": "left out", "seed": "2", "a": "b=c"}


class TestDamage:
    def test_damaged_parts_are_skipped_and_named(self, tmp_path):
        folder = write_run(tmp_path / "a", options={"seed": 1}, value=7.5, job={"status": "completed"})
        metrics = (folder / "metrics.csv").read_text()
        (folder / "metrics.csv").write_text(metrics.replace("15.0,", "fifteen,") + "50000,1.2,0.8,0.")
        (folder / "summary.json").write_text("{")
        (folder / "samples" / "000020000.png").write_bytes((folder / "samples" / "real.png").read_bytes()[:50])
        run = read_run(folder)
        assert run.status == "completed"
        assert run.best == 7.5
        assert run.curves[OBJECTIVE][0] == [10_000, 30_000, 40_000]
        assert list(run.samples) == [10_000, 30_000, 40_000]
        assert 50_000 not in run.curves["train/discriminator_loss"][0]  # a truncated number is a wrong one
        named = [sentence.split(" ")[0] for sentence in run.damaged]
        assert sorted(named) == ["000020000.png", "metrics.csv", "metrics.csv", "summary.json"]
        assert f"a: {' '.join(run.damaged)}" in notes([run])

    def test_a_truncated_configuration(self, tmp_path):
        folder = write_run(tmp_path / "a", options={"loss": "hinge"}, job={"overrides": ["loss=hinge"]})
        (folder / "config.yaml").write_text("seed: 1\nmax_images: 40")  # valid YAML, but another number
        run = read_run(folder)
        assert run.options == {}
        assert run.choices == {"loss": "hinge"}
        assert run.damaged == ("config.yaml is not a complete YAML file and was left out.",)

    def test_a_growing_file_is_not_damaged(self, tmp_path):
        folder = write_run(tmp_path / "a", options={}, status="running")
        with (folder / "metrics.csv").open("a") as file:
            file.write("50000,1.2,0.8,0.")
        run = read_run(folder)
        assert run.damaged == ()
        assert run.images_seen == 20_000

    def test_a_table_of_another_kind(self, tmp_path):
        folder = write_run(tmp_path / "a", options={})
        for content in (b"epoch,loss\n1,2\n", b"\x00\xff\x89PNG\n\r\n", b"\n\n"):
            (folder / "metrics.csv").write_bytes(content)
            run = read_run(folder)
            assert run.curves == {}
            assert run.damaged[0].startswith("metrics.csv is not a table")

    @pytest.mark.parametrize("name", ["metrics.csv", "summary.json", "config.yaml", "job.json", "sweep.json"])
    def test_random_bytes_raise_nothing(self, tmp_path, name):
        rng = random.Random(name)
        folder = tmp_path / "s"
        write_sweep(folder, {"loss": ["hinge", "wasserstein"]}, samples=False)
        path = folder / name if name == "sweep.json" else folder / "0" / name
        content = path.read_bytes()
        for _ in range(40):
            path.write_bytes(_spoiled(content, rng))
            runs = read_runs([folder])
            assert [run.number for run in runs] == [0, 1]
            text = [verdict(runs, OBJECTIVE), *notes(runs)]
            assert all(text)
            assert len(factors(runs)) >= (name != "job.json")

    @pytest.mark.parametrize("name", ["summary.json", "job.json", "sweep.json"])
    def test_values_of_other_types_raise_nothing(self, tmp_path, name):
        """Valid JSON with other types than a run writes."""
        folder = tmp_path / "s"
        write_sweep(folder, {"loss": ["hinge", "wasserstein"]}, samples=False)
        path = folder / name if name == "sweep.json" else folder / "0" / name
        content = json.loads(path.read_text())
        for key, value in itertools.product(content, [None, 3, "text", [], [1], {}, {"a": None}, -1.5, True]):
            path.write_text(json.dumps(content | {key: value}))
            runs = read_runs([folder])
            assert verdict(runs, OBJECTIVE)
            assert isinstance(notes(runs), list)


def _spoiled(content, rng):
    """Truncate ``content``, or replace some of its bytes."""
    if rng.random() < 0.4:
        return content[: rng.randrange(len(content))]
    spoiled = bytearray(content)
    for _ in range(rng.choice([1, 5, 100])):
        spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
    return bytes(spoiled)


class TestFactors:
    def test_a_choice_is_one_factor(self, tmp_path):
        runs = sweep(tmp_path, LOSSES)
        (found,) = factors(runs)
        assert (found.key, found.label, found.values, found.together) == (
            "loss",
            "loss",
            ("hinge", "non_saturating"),
            (),
        )
        assert [value_of(run, found) for run in runs] == ["hinge"] * 3 + ["non_saturating"] * 3

    def test_the_seed_is_a_factor_only_if_nothing_else_varies(self, tmp_path):
        assert [found.key for found in factors(sweep(tmp_path, {"seed": [2, 10, 1]}))] == ["seed"]
        assert factors(read_runs([tmp_path]))[0].values == ("1", "2", "10")

    def test_labels_are_as_short_as_possible(self, tmp_path):
        grid = {"generator_optimizer.lr": [1e-3, 1e-4], "discriminator_optimizer.lr": [0.1, 0.2], "data.size": [8, 16]}
        found = factors(sweep(tmp_path, grid))
        assert [factor.label for factor in found] == ["generator_optimizer.lr", "discriminator_optimizer.lr", "size"]
        assert [factor.values for factor in found] == [("0.0001", "0.001"), ("0.1", "0.2"), ("8", "16")]

    def test_runs_without_a_sweep(self, tmp_path):
        """No sweep records what varied: one run has the default loss, one typed an equal number differently."""
        write_run(tmp_path / "a", options={"seed": 1, "lr": 0.1})
        write_run(tmp_path / "b", options={"loss": "hinge", "seed": 2, "lr": 1e-1})
        write_run(tmp_path / "c", options={"loss": "hinge", "seed": 1, "+lr": 0.10})
        runs = read_runs([tmp_path / name for name in "abc"])
        (found,) = factors(runs)
        assert (found.key, found.values) == ("loss", ("non_saturating", "hinge"))

    def test_a_default_has_the_name_that_was_typed_elsewhere(self, tmp_path):
        write_run(tmp_path / "a", options={"loss": "hinge", "discriminator": "dcgan"})
        write_run(tmp_path / "b", options={"loss": "wasserstein"})
        write_run(tmp_path / "c", options={"loss": "hinge", "discriminator": "patch"})
        found = factors(read_runs([tmp_path / name for name in "abc"]))
        assert {factor.key: factor.values for factor in found}["discriminator"] == ("dcgan", "patch")

    def test_options_that_were_not_typed(self, tmp_path):
        """Configurations that were edited: options are found by their values, once, by the component's name."""
        for name, loss in (("a", "hinge"), ("b", "wasserstein")):
            folder = write_run(tmp_path / name, options={"loss": loss})
            config = folder / "config.yaml"
            config.write_text(config.read_text().replace(f"- loss={loss}\n", "- {}\n".format("max_images=40000")))
        (found,) = factors(read_runs([tmp_path / "a", tmp_path / "b"]))
        assert (found.key, found.values) == ("loss", ("hinge", "wasserstein"))

    def test_options_that_vary_together_are_one_factor(self, tmp_path):
        for name, loss, penalty in (("a", "hinge", "none"), ("b", "wasserstein", "wasserstein_gp")):
            write_run(tmp_path / name, options={"loss": loss, "penalty": penalty, "seed": 1})
        runs = read_runs([tmp_path / "a", tmp_path / "b"])
        (found,) = factors(runs)
        assert (found.key, found.together) == ("loss", ("penalty",))
        assert "loss and penalty vary together: their effects cannot be separated." in notes(runs)

    def test_a_seed_that_varies_with_the_factor(self, tmp_path):
        for name, loss, seed in (("a", "hinge", 1), ("b", "wasserstein", 2)):
            write_run(tmp_path / name, options={"loss": loss, "seed": seed})
        runs = read_runs([tmp_path / "a", tmp_path / "b"])
        assert [found.key for found in factors(runs)] == ["loss"]
        assert "The seed varies together with loss: their effects cannot be separated." in notes(runs)

    def test_nothing_varies(self, tmp_path):
        write_run(tmp_path / "a", options={"loss": "hinge"})
        assert factors(read_runs([tmp_path / "a"])) == []

    def test_a_job_that_never_started_has_its_values(self, tmp_path):
        runs = sweep(tmp_path, LOSSES, failures={0: ("missing", None)})
        assert value_of(runs[0], factors(runs)[0]) == "hinge"

    def test_equal_lists_are_equal_however_they_are_written(self, tmp_path):
        """A job that was never started has only typed options, the others have configurations."""
        for name in "ab":
            write_run(tmp_path / name, options={"loss": name, "data.classes": ["Hand", "HeadCT"]})
        runs = read_runs([tmp_path / "a", tmp_path / "b"])
        waiting = replace(runs[1], options={}, choices={"loss": "b", "data.classes": "[Hand, 'HeadCT']"})
        assert [factor.key for factor in factors([runs[0], waiting])] == ["loss"]


class TestEffects:
    values = (8.0, 8.5, 9.1, 6.9, 7.2, 8.2)  # hinge, then non_saturating, seeds 1, 2, 3

    def test_means_and_spread(self, tmp_path):
        runs = sweep(tmp_path, LOSSES, value=listed(self.values))
        hinge, other = effects(runs, OBJECTIVE)
        assert hinge.mean == pytest.approx(8.5333, abs=1e-4)
        assert other.mean == pytest.approx(7.4333, abs=1e-4)
        assert hinge.spread == pytest.approx(np.std(self.values[:3], ddof=1))
        assert (hinge.count, len(hinge.runs)) == (
            3,
            3,
        )

    def test_spread_is_that_of_seeds_not_of_other_factors(self, tmp_path):
        grid = {"loss": ["hinge", "wasserstein"], "size": [1, 2], "seed": [1, 2]}
        runs = sweep(tmp_path, grid, value=lambda o: 100 * o["size"] + o["seed"])
        assert [effect.spread for effect in effects(runs, OBJECTIVE)] == pytest.approx([0.5**0.5] * 4)
        assert seed_spread(runs, OBJECTIVE) == pytest.approx(0.5**0.5)

    def test_one_run_each_has_no_spread(self, tmp_path):
        runs = sweep(tmp_path, {"loss": ["hinge", "wasserstein"]})
        assert [effect.spread for effect in effects(runs, OBJECTIVE)] == [None, None]

    def test_pairs(self, tmp_path):
        (found,) = differences(sweep(tmp_path, LOSSES, value=listed(self.values)), OBJECTIVE)
        known = stats.ttest_rel(self.values[:3], self.values[3:]).confidence_interval(0.95)
        assert (found.a, found.b, found.pairs) == ("hinge", "non_saturating", 3)
        assert (found.difference, found.low, found.high) == pytest.approx((1.1, known.low, known.high))

    def test_failed_runs_lose_their_pair(self, tmp_path):
        failures = {1: ("diverged", "NaN.")}
        runs = sweep(tmp_path, LOSSES, value=listed(self.values), failures=failures)
        (found,) = differences(runs, OBJECTIVE)
        known = stats.ttest_rel([8.0, 9.1], [6.9, 8.2]).confidence_interval(0.95)
        assert (found.pairs, found.low, found.high) == (2, pytest.approx(known.low), pytest.approx(known.high))
        assert effects(runs, OBJECTIVE)[0].count == 2

    def test_welch_interval_if_no_seed_is_shared(self):
        first, second = [8.0, 8.5, 9.1], [6.9, 7.2]
        values = {(("loss", "a"), ("seed", str(seed))): value for seed, value in enumerate(first)}
        values |= {(("loss", "b"), ("seed", str(seed))): value for seed, value in enumerate(second, start=10)}
        (found,) = differences(runs_without_folders(values), OBJECTIVE)
        known = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert (found.pairs, found.low, found.high) == (0, pytest.approx(known.low), pytest.approx(known.high))

    def test_pairs_of_means_over_seeds_if_only_the_factors_are_shared(self):
        values = {}
        for size in range(3):
            for loss, seed in itertools.product("ab", range(2)):
                typed = (("loss", loss), ("size", str(size)), ("seed", str(seed + 10 * (loss == "b"))))
                values[typed] = size + seed + (loss == "b") * (1 + size / 10)
        found = next(d for d in differences(runs_without_folders(values), OBJECTIVE) if d.factor.key == "loss")
        known = stats.ttest_1samp([-1.0, -1.1, -1.2], 0).confidence_interval(0.95)
        assert (found.pairs, found.low, found.high) == (3, pytest.approx(known.low), pytest.approx(known.high))

    def test_a_single_pair_has_no_interval(self, tmp_path):
        (found,) = differences(sweep(tmp_path, {"loss": ["hinge", "wasserstein"]}), OBJECTIVE)
        assert (found.pairs, found.low, found.high) == (1, None, None)

    @pytest.mark.parametrize("shared", [True, False], ids=["paired", "Welch"])
    def test_coverage_of_intervals(self, shared):
        rng, draws, held = np.random.default_rng(0), 400, 0
        for _ in range(draws):
            common = rng.normal(0, 2, 4) if shared else np.zeros(4)
            a, b = common + rng.normal(1.5, 0.5, 4), common + rng.normal(0, 1, 4)
            values = {(("loss", "a"), ("seed", str(s))): v for s, v in enumerate(a)}
            values |= {(("loss", "b"), ("seed", str(s + 100 * (not shared)))): v for s, v in enumerate(b)}
            (found,) = differences(runs_without_folders(values), OBJECTIVE)
            assert found.pairs == 4 * shared
            held += found.low <= 1.5 <= found.high
        assert 0.92 <= held / draws <= 0.98  # 0.95, give or take three standard errors

    def test_directions_of_metrics(self):
        for name in ("val/precision_mini", "recall", "val/density_x", "coverage", "inception_score", "val/is_mini"):
            assert better(name) == "higher"
        for name in ("val/fd_mini", "val/fid", "kd_mini", "val/issues", "seconds"):
            assert better(name) == "lower"

    def test_directions_that_the_files_of_the_runs_tell(self, tmp_path):
        runs = sweep(tmp_path, LOSSES, better={"val/own_score": "higher", "val/is_mini": "lower"})
        assert better("val/own_score", runs) == "higher"
        assert better("val/is_mini", runs) == "lower"
        assert better("val/own_score") == "lower"

    def test_pareto_front(self):
        points = {"a": (1.0, 9.0), "b": (2.0, 5.0), "c": (3.0, 5.0), "d": (4.0, 1.0), "e": (2.0, 5.0), "f": (0.5, 9.5)}
        runs = runs_without_folders({(("x", name),): value for name, (_, value) in points.items()})
        for run, (seconds, _) in zip(runs, points.values(), strict=True):
            run.summary["seconds"] = seconds
        assert {run.choices["x"] for run in pareto(runs, "seconds", OBJECTIVE)} == set("abdef")
        assert {run.choices["x"] for run in pareto(runs, "seconds", OBJECTIVE, "higher")} == {"f"}


@pytest.mark.parametrize("test", [None, "medsynth evaluate run=outputs/a"])
def test_closing_lines_say_what_the_best_was_selected_on(test):
    text = summary_text(
        {
            "trained": "A",
            "data": "B",
            "images_seen": 64,
            "seconds": 1.0,
            "images_per_second": 64.0,
            "precision": "32-true",
            "peak_memory_gib": 0.1,
            "metrics": {OBJECTIVE: 2.0, NUM_REAL: 16.0, NUM_FAKE: 16.0},
            "best": {"objective": OBJECTIVE, "value": 2.0, "images_seen": 32},
            "files": {},
            "next": "medsynth generate run=outputs/a",
            "test": test,
        }
    )
    assert "best       fd_mini 2 at 32 images, selected on these real images" in text
    assert ("medsynth evaluate run=outputs/a (the best on test images" in text) == (test is not None)


class TestInteraction:
    def test_difference_of_differences(self, tmp_path):
        grid = {"loss": ["hinge", "wasserstein"], "backbone": ["a", "b"], "seed": [1, 2, 3]}
        noise = {seed: np.random.default_rng(seed).normal(0, 0.3, 4) for seed in (1, 2, 3)}
        table = {("hinge", "a"): 5, ("hinge", "b"): 6, ("wasserstein", "a"): 4, ("wasserstein", "b"): 9}

        def value(options):
            cell = options["loss"], options["backbone"]
            return table[cell] + noise[options["seed"]][list(table).index(cell)]

        runs = sweep(tmp_path, grid, value=value)
        found = interaction(runs, *factors(runs), OBJECTIVE)
        blocks = [4 + n[0] - n[1] - n[2] + n[3] for n in noise.values()]
        known = stats.ttest_1samp(blocks, 0).confidence_interval(0.95)
        assert (found.contrast, found.low, found.high) == pytest.approx((np.mean(blocks), known.low, known.high))
        assert found.counts == ((3, 3), (3, 3))
        assert found.means[0][1] == pytest.approx(6 + np.mean([n[1] for n in noise.values()]))
        assert "over 3 repetitions these are shown to differ" in found.sentence
        assert "But the two depend on each other" in verdict(runs, OBJECTIVE)

    def test_largest_deviation_from_a_sum(self, tmp_path):
        sizes = {"loss": ["hinge", "wasserstein"], "size": [1, 2, 3]}
        runs = sweep(tmp_path, sizes, value=listed([5, 6, 7, 6, 7, 14]))
        found = interaction(runs, *factors(runs), OBJECTIVE)
        # Row means 6 and 9, column means 5.5, 6.5 and 10.5, grand mean 7.5: 12 and 9 are expected where 14 and 7 are.
        assert (abs(found.contrast), found.low) == (pytest.approx(2.0), None)
        assert "the spread between seeds is not known" in found.sentence

    def test_additive_effects(self, tmp_path):
        runs = sweep(tmp_path, {"loss": ["hinge", "wasserstein"], "size": [1, 2]}, value=listed([5, 6, 7, 8]))
        assert interaction(runs, *factors(runs), OBJECTIVE).contrast == pytest.approx(0)

    def test_a_cell_without_runs(self, tmp_path):
        failures = {3: ("failed", "No.")}
        runs = sweep(tmp_path, {"loss": ["hinge", "wasserstein"], "size": [1, 2]}, failures=failures)
        found = interaction(runs, *factors(runs), OBJECTIVE)
        assert found.means[1][1] is None
        assert found.contrast is None
        assert found.sentence.startswith("It is not known whether")


class TestVerdict:
    def test_a_difference_that_is_shown(self, tmp_path):
        runs = sweep(tmp_path, LOSSES, value=listed([8.0, 8.5, 9.1, 6.9, 7.2, 8.2]))
        low, high = stats.ttest_rel([8.0, 8.5, 9.1], [6.9, 7.2, 8.2]).confidence_interval(0.95)
        spread = statistics.fmean([np.var(v, ddof=1) for v in ([8.0, 8.5, 9.1], [6.9, 7.2, 8.2])]) ** 0.5
        assert verdict(runs, OBJECTIVE) == (
            f"loss=non_saturating won with val/fd_mini 7.433 (mean of 3 seeds); it is 1.1 [{low:.3g}, {high:.3g}] "
            f"better than loss=hinge over 3 pairs, which exceeds the spread between seeds of {spread:.2g}."
        )

    @pytest.mark.parametrize(("direction", "compared"), [("lower", "hinge|minimax"), ("higher", "minimax|wasserstein")])
    def test_the_best_two_of_several_values_are_compared(self, tmp_path, direction, compared):
        levels = {"hinge": 1.0, "minimax": 2.0, "wasserstein": 9.0}
        grid = {"loss": list(levels), "seed": [1, 2, 3]}

        def value(options):
            return levels[options["loss"]] + 0.1 * options["seed"] ** 2 * (2 if options["loss"] == "minimax" else 1)

        text = verdict(sweep(tmp_path, grid, value=value), OBJECTIVE, direction)
        best, second = compared.split("|") if direction == "lower" else reversed(compared.split("|"))
        assert f"loss={best} won" in text
        assert f"better than loss={second} over 3 pairs" in text
        assert "[-" not in text, "the interval is of the improvement"

    def test_interactions_among_more_than_two_factors_are_not_tested(self, tmp_path):
        grid = {"loss": ["hinge", "wasserstein"], "backbone": ["a", "b"], "generator.width": [8, 16]}
        best = {"loss": "hinge", "backbone": "a", "generator.width": 16}
        runs = sweep(tmp_path, grid, value=lambda options: sum(options[name] != best[name] for name in best))
        text = verdict(runs, OBJECTIVE)
        assert text.endswith(
            "Interactions among loss, backbone and width are not tested here, since more than two options vary; to "
            f"compare loss and backbone at width=16, type: medsynth report {runs[0].folder.parent}/{{1,3,5,7}} "
            "out=two_factors.html"
        )
        two = verdict([runs[number] for number in (1, 3, 5, 7)], OBJECTIVE)
        assert "not tested here" not in two
        assert "not tested here" not in verdict(sweep(tmp_path / "two", LOSSES), OBJECTIVE)

    def test_a_search_of_more_than_two_options_is_told_what_to_type(self, tmp_path):
        grid = [{"loss": "hinge" if n % 2 else "wasserstein", "lr": n / 10, "width": n % 3} for n in range(6)]
        runs = runs_without_folders(
            {tuple((key, str(value)) for key, value in options.items()): float(n) for n, options in enumerate(grid)}
        )
        assert "type: python train.py -m loss=" in verdict(runs, OBJECTIVE)

    def test_a_difference_within_the_spread(self, tmp_path):
        text = verdict(sweep(tmp_path, LOSSES, value=listed([8.0, 9.0, 7.0, 7.2, 7.0, 8.9])), OBJECTIVE)
        assert "but that is within the spread between seeds of 1: not shown." in text

    def test_a_small_difference_that_every_pair_shows(self, tmp_path):
        text = verdict(sweep(tmp_path, LOSSES, value=listed([7.1, 8.1, 9.12, 7.0, 8.0, 9.0])), OBJECTIVE)
        assert "which is within the spread between seeds of 1, but the interval excludes 0: shown, and small." in text

    def test_a_large_difference_that_is_not_shown(self, tmp_path):
        text = verdict(sweep(tmp_path, LOSSES, value=listed([9.0, 9.5, 9.0, 7.0, 9.0, 8.8])), OBJECTIVE)
        assert "but the interval includes 0: not shown." in text

    def test_no_difference_at_all(self, tmp_path):
        text = verdict(sweep(tmp_path, LOSSES, value=lambda options: options["seed"]), OBJECTIVE)
        assert text.endswith("loss=hinge and loss=non_saturating do not differ over 3 pairs.")

    def test_one_seed(self, tmp_path):
        text = verdict(sweep(tmp_path, {"loss": ["hinge", "wasserstein"]}, value=listed([7.0, 9.0])), OBJECTIVE)
        assert text == (
            "loss=hinge won with val/fd_mini 7 (one run); it is 2 better than loss=wasserstein over 1 pair, but with "
            "one run each the spread between seeds is not known: this is not shown."
        )

    def test_higher_is_better(self, tmp_path):
        runs = sweep(tmp_path, LOSSES, value=listed([1, 1.1, 1.2, 2, 2.2, 2.1]))
        assert verdict(runs, OBJECTIVE, "higher").startswith("loss=non_saturating won")
        assert verdict(runs, OBJECTIVE).startswith("loss=hinge won")
        assert verdict(runs, "val/is_mini").startswith("loss=hinge won")  # falls with the distance in these runs

    def test_failures_that_depend_on_the_factor(self, tmp_path):
        failures = {0: ("diverged", "NaN."), 2: ("killed", "killed by SIGKILL")}
        text = verdict(sweep(tmp_path, LOSSES, failures=failures), OBJECTIVE)
        assert "2 of 6 jobs did not complete (1 diverged, 1 killed): means are over those that did." in text
        assert text.endswith(
            "Both have loss=hinge: this may be the reason, and biases the mean over its other runs in its favor."
        )

    def test_failures_that_do_not(self, tmp_path):
        text = verdict(sweep(tmp_path, LOSSES, failures={0: ("failed", "x"), 4: ("failed", "x")}), OBJECTIVE)
        assert text.endswith("2 of 6 jobs did not complete (2 failed): means are over those that did.")

    def test_one_value_without_a_completed_run(self, tmp_path):
        text = verdict(sweep(tmp_path, LOSSES, failures={n: ("failed", "x") for n in range(3)}), OBJECTIVE)
        assert "loss: only non_saturating has completed runs, so there is nothing to compare it with." in text

    def test_nothing_completed(self, tmp_path):
        text = verdict(sweep(tmp_path, LOSSES, failures={n: ("failed", "x") for n in range(6)}), OBJECTIVE)
        assert text == (
            "No run has completed, so that there is no value of val/fd_mini. 6 of 6 jobs did not complete (6 failed)."
        )

    def test_an_unknown_metric(self, tmp_path):
        text = verdict(sweep(tmp_path, LOSSES), "val/fid")
        assert text == "No completed run has a value of val/fid; there are val/fd_mini, val/is_mini, val/kd_mini."

    def test_seeds_alone(self, tmp_path):
        text = verdict(sweep(tmp_path, {"seed": [1, 2, 3]}, value=listed([7.0, 8.0, 9.0])), OBJECTIVE)
        assert "reached val/fd_mini 8 on average, with a standard deviation of 1 (from 7 to 9)." in text

    def test_one_run(self, tmp_path):
        write_run(tmp_path / "a", options={}, value=7.0)
        assert verdict(read_runs([tmp_path / "a"]), OBJECTIVE) == "a reached val/fd_mini 7."

    def test_a_search_is_described_by_its_trend(self, tmp_path):
        rates = [10.0**-n for n in range(1, 11)]
        text = verdict(sweep(tmp_path, {"lr": rates}, value=lambda o: -math.log10(o["lr"])), OBJECTIVE)
        assert "lr took 10 values, each once: val/fd_mini falls with it (Spearman's rank correlation -1.00" in text

    @pytest.mark.parametrize("status", ["failed", "diverged", "killed", "stopped"])
    def test_the_verdict_does_not_depend_on_reasons(self, tmp_path, status):
        texts = set()
        for number, reason in enumerate(("The loss was NaN.", "x", None)):
            runs = sweep(tmp_path / str(number), LOSSES, failures={0: (status, reason), 2: (status, reason)})
            assert runs[0].status == status
            texts.add((verdict(runs, OBJECTIVE), *notes(runs)))
        assert len(texts) == 1

    def test_running(self, tmp_path):
        runs = sweep(tmp_path, LOSSES, failures={5: ("running", None)}, finished=False)
        assert verdict(runs, OBJECTIVE).endswith("1 of 6 jobs is still running.")
        assert "Still running, and so without a value: loss=non_saturating,seed=3." in notes(runs)


class TestNotes:
    def test_nothing_to_note(self, tmp_path):
        assert notes(sweep(tmp_path, LOSSES)) == []

    def test_unequal_runs(self, tmp_path):
        one = {"data": "100 images of a", "images_seen": 20_000, "device": "cpu (1 threads)", "medsynth": "0.1.0"}
        other = {"data": "200 images of b", "images_seen": 40_000, "device": "NVIDIA H200", "medsynth": "0.2.0"}
        write_run(tmp_path / "a", options={"loss": "hinge"}, **one)
        curves = {name: curve for name, curve in make_curves(7.0).items() if "kd_mini" not in name}
        write_run(tmp_path / "b", options={"loss": "wasserstein"}, curves=curves, **other)
        text = notes(read_runs([tmp_path / "a", tmp_path / "b"]))
        starts = ["The data differ, although", "The runs saw different numbers of images", "Not measured in all runs"]
        starts += ["The runs are from different versions of medsynth", "The runs are from different devices: times"]
        assert len(text) == len(starts)
        assert all(sentence.startswith(start) for sentence, start in zip(text, starts, strict=True))
        assert "val/kd_mini" in text[2]
        assert "20,000 images: a. 40,000 images: b." in text[1]

    def test_data_with_a_fingerprint(self, tmp_path):
        for name in "ab":
            environment = {"data_fingerprint": "1234"}
            write_run(tmp_path / name, options={"loss": name}, data=f"images in {name}", environment=environment)
        assert notes(read_runs([tmp_path / "a", tmp_path / "b"])) == []

    def test_duplicates_count_once(self, tmp_path):
        runs = sweep(tmp_path, LOSSES, failures={1: ("duplicate", None)})
        same = "loss=hinge,seed=2 has the same configuration as loss=hinge,seed=1; it was not trained again"
        assert f"{same} and counts once." in notes(runs)
        assert effects(runs, OBJECTIVE)[0].count == 2
        assert "did not complete" not in verdict(runs, OBJECTIVE)

    def test_equal_runs_count_once(self, tmp_path):
        for name, value in (("first", 7.0), ("second", 9.0)):
            write_sweep(tmp_path / name, LOSSES, value=lambda o, value=value: value + o["seed"], samples=False)
        runs = read_runs([tmp_path / "first", tmp_path / "second"])
        assert sum(sentence.startswith("Trained more than once") for sentence in notes(runs)) == 6
        assert seed_spread(runs, OBJECTIVE) == pytest.approx(1.0)
        assert differences(runs, OBJECTIVE)[0].pairs == 3

    def test_a_job_without_configuration_has_no_other_seed(self, tmp_path):
        runs = sweep(tmp_path, {"loss": ["hinge", "wasserstein"]}, failures={1: ("missing", None)})
        assert notes(runs) == ["Without a value: loss=wasserstein (missing)."]

    def test_other_seeds(self, tmp_path):
        for name, loss, seed in (("a", "x", 1), ("b", "x", 2), ("c", "y", 1), ("d", "y", 3)):
            write_run(tmp_path / name, options={"loss": loss, "seed": seed})
        text = notes(read_runs([tmp_path / name for name in "abcd"]))
        assert text == ["Not all values were trained with the same seeds: only runs with equal seeds are paired."]
