"""Click-through models on the command line."""

from __future__ import annotations

import os

import numpy as np
import pytest
from click.testing import CliRunner

import seqrec_fast as sf
from seqrec_fast.cli import main
from seqrec_fast.data import InteractionLog, sampled_clicks, simulate, write_log

SMALL = ["--epochs", "2", "--batch-size", "64"]
MODELS = ("din", "dien", "recurrent-ctr", "theme-mixture")
models = pytest.mark.parametrize("name", MODELS)


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def value(text, name):
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(name)))


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    """Write interactions, and impressions of the same users in two parts."""
    folder = tmp_path_factory.mktemp("clicks")
    simulation = simulate(150, 40, 5, n_categories=8, mean_length=8.0, seed=2)
    write_log(simulation.to_log(), folder / "log.tsv")
    samples = sampled_clicks(simulation.sessions, 40, n_negatives=2)
    late = np.arange(len(samples)) >= len(samples) * 0.8
    for name, part in (("shown", ~late), ("later", late)):
        chosen = samples.select(part)
        write_log(
            InteractionLog(chosen.users, chosen.targets, chosen.times, chosen.labels),
            folder / f"{name}.tsv",
        )
    return folder


@pytest.fixture(scope="session")
def model(logs):
    path = logs / "din.safetensors"
    run("train", logs / "shown.tsv", "--out", path, *SMALL, "--model", "din", "--label-column",
        "Label")  # fmt: skip
    return path


@models
def test_from_interactions_to_metrics(logs, name, tmp_path) -> None:
    out, log = tmp_path / "model.safetensors", logs / "log.tsv"
    text = run("train", log, "--out", out, "--model", name, "--leave-one-out", "--negatives", "3",
               "--patience", "5", *SMALL, "--lr", "0.01")  # fmt: skip
    assert "epoch 2/2  loss" in text
    assert "auc 0." in text
    assert "kept epoch" in text
    assert "trains with" in text
    assert sf.load(out).config["n_items"] == 40
    text = run("evaluate", out, log, "--leave-one-out", "--negatives", "5")
    assert "774 samples (129 positive) of 129 users" in text
    assert 0.5 < value(text, "auc") < 1
    assert 0.4 < value(text, "gauc") < 1
    assert 0 < value(text, "log_loss") < 1
    text = run("evaluate", out, log, "--last-only", "--negatives-by", "popularity")
    assert "300 samples (150 positive)" in text
    assert f"model: {name.replace('-', '_')}" in run("info", out)


def test_from_impressions_to_metrics(logs, model) -> None:
    text = run("evaluate", model, logs / "later.tsv", "--label-column", "Label")
    short = value(text, "auc")
    text = run("evaluate", model, logs / "later.tsv", "--label-column", "Label",
               "--history", logs / "shown.tsv")  # fmt: skip
    assert value(text, "auc") != short
    cut = run("evaluate", model, logs / "later.tsv", "--label-column", "Label",
              "--history", logs / "shown.tsv", "--max-length", "1")  # fmt: skip
    assert value(cut, "auc") != value(text, "auc")


def test_the_seed_fixes_the_model(logs, model, tmp_path) -> None:
    out = tmp_path / "again.safetensors"
    command = ["train", logs / "shown.tsv", "--out", out, *SMALL, "--model", "din",
               "--label-column", "Label"]  # fmt: skip
    run(*command)
    assert out.read_bytes() == model.read_bytes()
    run(*command, "--seed", "1")
    assert out.read_bytes() != model.read_bytes()
    checkpoint = tmp_path / "run.ckpt"
    run(*command, "--epochs", "1", "--no-lr-decay", "--checkpoint", checkpoint)
    text = run(*command, "--no-lr-decay", "--checkpoint", checkpoint, "--resume")
    assert "epoch 1/2" not in text
    assert "epoch 2/2" in text


def test_options_of_the_models(logs, tmp_path) -> None:
    out = tmp_path / "model.safetensors"
    command = ["train", logs / "shown.tsv", "--out", out, *SMALL, "--label-column", "Label"]
    text = run(*command, "--model", "dien", "--embedding-dim", "8", "--hidden-size", "8",
               "--auxiliary-weight", "0.5", "--attention-mode", "aigru",
               "--dropout-hidden", "0.1", "--valid", logs / "later.tsv", "--max-length", "20",
               "--min-item-support", "2")  # fmt: skip
    config = sf.load(out).config
    assert (config["embedding_dim"], config["hidden_size"]) == (8, 8)
    assert (config["auxiliary_weight"], config["dropout"]) == (0.5, 0.1)
    assert config["attention_mode"] == "aigru"
    assert "gauc 0." in text
    run(*command, "--model", "recurrent-ctr", "--cell", "lstm", "--patience", "1")
    assert sf.load(out).config["cell"] == "lstm"
    run(*command, "--model", "theme-mixture", "--n-themes", "3", "--k", "2", "--session-gap", "60")
    config = sf.load(out).config
    assert (config["n_themes"], config["k"], config["session_gap"]) == (3, 2, 60)
    log = logs / "log.tsv"
    text = run("train", log, "--out", out, *SMALL, "--model", "din", "--valid", log)
    assert "auc 0." in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "din", "--loss", "full"], 2, "--loss has no effect on the model din"),
        (
            ["--model", "din", "--hidden-size", "8"],
            2,
            "--hidden-size has no effect on the model din",
        ),
        (["--label-column", "Label"], 2, "--label-column has no effect on the model gru4rec"),
        (["--negatives", "3"], 2, "--negatives has no effect on the model gru4rec"),
        (
            ["--model", "din", "--task", "next-item"],
            2,
            "--task has no effect on the model din",
        ),
        (["--task", "next-item"], 2, "--task has no effect on the model gru4rec"),
        (
            ["--model", "theme-mixture", "--task", "next-item", "--bptt", "2"],
            2,
            "--bptt has no effect on the model theme-mixture for the next item",
        ),
        (["--model", "dnn"], 2, "'dnn' is not one of 'gru4rec', 'din'"),
        (["--model", "din", "--label-column", "Click"], 1, "has no column 'Click'"),
        (["--model", "din", "--label-column", "ItemId"], 1, "row 1: column 'ItemId' holds"),
        (
            ["--model", "din", "--label-column", "Label", "--leave-one-out"],
            2,
            "--leave-one-out and --label-column exclude each other",
        ),
        *(
            (
                ["--model", "din", "--label-column", "Label", option, value],
                2,
                f"{option} has no effect with --label-column",
            )
            for option, value in (
                ("--negatives", "2"),
                ("--negatives-by", "popularity"),
                ("--min-session-length", "3"),
            )
        ),
        (["--n-themes", "3"], 2, "--n-themes has no effect on the model gru4rec"),
        (["--model", "din", "--k", "2"], 2, "--k has no effect on the model din"),
        (
            ["--model", "theme-mixture", "--attention-mode", "agru"],
            2,
            "--attention-mode has no effect on the model theme-mixture",
        ),
        (["--model", "theme-mixture", "--k", "9"], 1, "k is 9; expected 1 to n_themes=8"),
        (["--model", "din", "--epochs", "0"], 1, "epochs is 0"),
        (["--model", "recurrent-ctr", "--cell", "rnn"], 1, "cell is 'rnn'; expected one of gru"),
    ],
)
def test_wrong_arguments_of_train(logs, tmp_path, arguments, code, message) -> None:
    out = tmp_path / "model.safetensors"
    text = run("train", logs / "shown.tsv", "--out", out, *arguments, code=code)
    assert message in " ".join(text.split())
    assert os.listdir(tmp_path) == []


def test_wrong_arguments_of_other_commands(logs, model, tmp_path) -> None:
    text = run("recommend", model, logs / "log.tsv", "--out", tmp_path / "r.csv", code=1)
    assert "is a click-through model (din), which scores given items" in text
    text = run("evaluate", model, logs / "log.tsv", "--history", logs / "log.tsv", code=2)
    assert "--history needs --label-column" in text
    for option in (
        ["--last-only"], ["--leave-one-out"], ["--negatives", "2"], ["--negatives-by", "uniform"]
    ):  # fmt: skip
        text = run(
            "evaluate", model, logs / "shown.tsv", "--label-column", "Label", *option, code=2
        )
        assert f"{option[0]} has no effect with --label-column" in text
    text = run("evaluate", model, logs / "log.tsv", "--k", "5", code=2)
    assert "--k has no effect on the model" in text
    out = tmp_path / "gru4rec.safetensors"
    run("train", logs / "log.tsv", "--out", out, "--hidden-size", "8", "--epochs", "1")
    text = run("evaluate", out, logs / "log.tsv", "--negatives", "5", code=2)
    assert "--negatives has no effect on the model" in text
    (tmp_path / "s.txt").write_text("777 888\n888 777 999\n")
    text = run("evaluate", model, tmp_path / "s.txt", code=1)
    assert "leaves no session to predict in: 0 of 5 events" in text
