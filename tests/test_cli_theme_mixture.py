"""A theme mixture for the next item on the command line."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from click.testing import CliRunner

import seqrec_fast as sf
from seqrec_fast.cli import main
from seqrec_fast.data import (
    build_sessions,
    read_log,
    simulate_hopping,
    split_leave_one_out,
    write_log,
)


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("themes")
    histories = simulate_hopping(40, 48, 3, n_categories=4, length=(20, 80), seed=2)
    write_log(histories.to_log(), folder / "log.tsv")
    text = run(
        "train", folder / "log.tsv", "--out", folder / "model.safetensors", "--model",
        "theme-mixture", "--task", "next-item", "--epochs", "3", "--hidden-size", "24",
        "--batch-size", "4", "--leave-one-out", "--patience", "3",
    )  # fmt: skip
    assert "epoch 3/3" in text
    return folder


def test_metrics_are_those_of_the_answers(trained) -> None:
    text = run("evaluate", trained / "model.safetensors", trained / "log.tsv", "--leave-one-out",
               "--k", "5")  # fmt: skip
    recall = float(text.splitlines()[-1].split()[1])
    recommender = sf.load(trained / "model.safetensors")
    assert recommender.config["hidden_size"] == 24
    sessions, vocabulary, _ = build_sessions(read_log(trained / "log.tsv"))
    _, _, test = split_leave_one_out(sessions)
    history = test.trimmed(last=1)
    found, _ = recommender.recommend(
        vocabulary.ids[history.items], 5, offsets=history.offsets, times=history.times
    )
    wanted = vocabulary.ids[test.items[test.offsets[1:] - 1]]
    assert recall == pytest.approx((found == wanted[:, None]).any(1).mean(), abs=1e-4)
    assert recall > 5 / 48


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_recommends_with_the_times_of_the_file(trained, tmp_path, ending) -> None:
    out = tmp_path / f"best{ending}"
    run("recommend", trained / "model.safetensors", trained / "log.tsv", "--out", out, "--k", "3",
        "--batch-size", "7")  # fmt: skip
    separator = "," if ending == ".csv" else "\t"
    with out.open() as file:
        rows = list(csv.DictReader(file, delimiter=separator))
    sessions, vocabulary, _ = build_sessions(read_log(trained / "log.tsv"))
    found, _ = sf.load(trained / "model.safetensors").recommend(
        vocabulary.ids[sessions.items], 3, offsets=sessions.offsets, times=sessions.times
    )
    np.testing.assert_array_equal(
        np.array([int(row["ItemId"]) for row in rows]).reshape(-1, 3), found
    )


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
def test_defaults_fit_the_optimizer(trained, tmp_path, optimizer) -> None:
    text = run(
        "train", trained / "log.tsv", "--out", tmp_path / "model.safetensors", "--model",
        "theme-mixture", "--task", "next-item", "--epochs", "1", "--hidden-size", "8",
        "--optimizer", optimizer, "--n-themes", "3", "--k", "2", "--session-gap", "60",
    )  # fmt: skip
    assert "epoch 1/1" in text
    config = sf.load(tmp_path / "model.safetensors").config
    assert (config["n_themes"], config["k"], config["session_gap"]) == (3, 2, 60)
