"""The command line: what each command writes, and what it says of bad input."""

import csv
import errno
import json
import os
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import seqrec_fast as sf
from seqrec_fast.cli import main
from seqrec_fast.data import simulate, write_log

SMALL = ["--hidden-size", "8", "--epochs", "2", "--batch-size", "16"]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "clicks.tsv"
    write_log(simulate(120, 40, 5, n_categories=8, mean_length=6.0).to_log(), path)
    return path


@pytest.fixture(scope="session")
def model(log):
    path = log.parent / "model.safetensors"
    run("train", log, "--out", path, *SMALL)
    return path


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def read_csv(path, delimiter=","):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_help_names_all_commands_and_needs_no_torch():
    program = "import sys; from seqrec_fast.cli import main; main(['--help'], standalone_mode=0);"
    program += "print(sorted({'torch', 'pyarrow', 'safetensors', 'tqdm'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.endswith("[]\n"), result.stderr
    for command in ("demo", "train", "evaluate", "recommend", "convert", "info"):
        assert f"  {command} " in result.stdout
        assert "Examples:\n    seqrec-fast" in run(command, "--help")


def test_module_and_version():
    result = subprocess.run(
        [sys.executable, "-m", "seqrec_fast", "--version"], capture_output=True, text=True
    )
    assert result.stdout == f"seqrec-fast, version {sf.__version__}\n"


def test_train_says_what_it_did(log, tmp_path):
    out = tmp_path / "model.safetensors"
    text = run("train", log, "--out", out, *SMALL, "--cell", "lstm", "--layers", "2")
    assert "120 of 120 sessions" in text
    assert "epoch 2/2  loss" in text
    assert f"{out}: " in text
    assert os.listdir(tmp_path) == [out.name]
    config = sf.load(out).config
    assert (config["cell"], config["hidden_size"], config["embedding_dim"]) == ("lstm", 8, 8)
    assert config["num_layers"] == 2


def test_the_seed_fixes_the_model(log, model, tmp_path):
    out = tmp_path / "again.safetensors"
    run("train", log, "--out", out, *SMALL)
    assert out.read_bytes() == model.read_bytes()
    run("train", log, "--out", out, *SMALL, "--seed", "1")
    assert out.read_bytes() != model.read_bytes()


def test_training_with_other_options(log, tmp_path):
    out = tmp_path / "model.safetensors"
    text = run(
        "train", log, "--out", out, *SMALL, "--batching", "session-parallel", "--loss", "sampled",
        "--n-sample", "16", "--optimizer", "adagrad", "--no-lr-decay", "--embedding", "none",
        "--valid", log, "--min-item-support", "2", "--threads", sf.get_num_threads(),
    )  # fmt: skip
    assert "recall@20 0." in text
    assert "the best" in text
    text = run("train", log, "--out", out, *SMALL, "--leave-one-out", "--patience", "1")
    assert "recall@20 0." in text


def test_training_with_the_options_of_the_official_gru4rec(log, tmp_path):
    out = tmp_path / "model.safetensors"
    command = [
        "train", log, "--out", out, *SMALL, "--batching", "session-parallel", "--carry-dropout",
        "--loss", "bpr-max", "--n-sample", "16", "--alpha", "0.3", "--collisions", "own",
        "--bpreg", "1", "--elu", "0.5", "--optimizer", "adagrad", "--lr", "0.05",
        "--momentum", "0.3", "--no-lr-decay",
    ]  # fmt: skip
    run(*command)
    first = out.read_bytes()
    for option, value in (("--elu", "0"), ("--bpreg", "2"), ("--momentum", "0.5")):
        run(*command, option, value)
        assert out.read_bytes() != first, option


def test_defaults_are_those_of_the_trainer():
    from seqrec_fast.training import TrainingOptions

    parameters = {parameter.name: parameter.default for parameter in main.commands["train"].params}
    assert {field.name: parameters[field.name] for field in fields(TrainingOptions)} == {
        field.name: field.default for field in fields(TrainingOptions)
    }


def test_resumed_training_ends_as_if_it_had_not_stopped(log, model, tmp_path, monkeypatch):
    from seqrec_fast.training import WholeSessionBatches

    out, checkpoint = tmp_path / "model.safetensors", tmp_path / "run.ckpt"
    command = ["train", log, "--out", out, *SMALL, "--checkpoint", checkpoint, "--resume"]
    epochs = []

    def interrupted(self, rng, epoch=WholeSessionBatches.epoch):
        for batch in epoch(self, rng):
            if len(epochs) == 1:
                raise KeyboardInterrupt
            yield batch
        epochs.append(1)

    monkeypatch.setattr(WholeSessionBatches, "epoch", interrupted)
    text = run(*command, code=130)
    assert "interrupted in epoch 2" in text
    assert "run.ckpt holds epoch 1" in text
    assert os.listdir(tmp_path) == [checkpoint.name]
    monkeypatch.undo()
    text = run(*command)
    assert "epoch 1/2" not in text
    assert "epoch 2/2" in text
    assert out.read_bytes() == model.read_bytes()


def test_evaluate_prints_a_table(log, model):
    text = run("evaluate", model, log, "--k", "5,40")
    head, *rows = text.splitlines()[-3:]
    assert head.split() == ["k", "recall", "mrr", "ndcg", "coverage"]
    assert [row.split()[0] for row in rows] == ["5", "40"]
    assert rows[1].split()[1] == "1.0000"
    assert "items ranked, ties conservative" in text


def test_evaluate_counts_predictions(model, write):
    ids = sf.load(model).vocabulary.ids[:3].tolist()
    test = write("test.txt", "{0} {1} {2} {0}\n{1} {2}\n777 {0}\n{2} {2} 888\n".format(*ids))
    text = run("evaluate", model, test)
    assert "5 predictions in 3 sessions" in text
    assert "dropped 2 events of 2 unknown items (such as 777, 888)" in text
    assert "3 predictions in 3 sessions" in run("evaluate", model, test, "--last-only")
    text = run("evaluate", model, test, "--leave-one-out", "--exclude-seen", "--ties", "median")
    assert "1 predictions in 1 sessions" in text
    assert text.splitlines()[-1].split()[1] == "0.0000"


def test_the_old_name_of_exclude_seen_is_understood_and_not_shown(model, write):
    test = write("test.txt", "1 2 1\n3 3\n")
    names = ("--exclude-seen", "--filter-seen")
    assert run("evaluate", model, test, names[0]) == run("evaluate", model, test, names[1])
    for command in ("train", "evaluate", "recommend"):
        text = run(command, "--help")
        assert names[0] in text
        assert names[1] not in text


def test_recommend_takes_clicks_alone_for_history(model, tmp_path):
    ids = sf.load(model).vocabulary.ids.tolist()
    header, shown = "SessionId,ItemId,Time,Click", tmp_path / "shown.csv"
    rows = [("b", ids[0], 1, 1), ("a", ids[1], 9, 1), ("b", ids[2], 3, 0), ("a", ids[3], 2, 1),
            ("c", ids[4], 1, 0), ("b", ids[5], 2, 1)]  # fmt: skip
    shown.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    out = tmp_path / "out.csv"
    for size in (1, 2, 9):
        run("recommend", model, shown, "--out", out, "--k", "4", "--label-column", "Click",
            "--batch-size", size)  # fmt: skip
        found = read_csv(out)
        assert [row["SessionId"] for row in found] == [*"bbbbaaaacccc"]
        expected, _ = sf.load(model).recommend([[ids[0], ids[5]], [ids[3], ids[1]], []], 4)
        assert [int(row["ItemId"]) for row in found] == expected.ravel().tolist()


def test_recommend_to_all_formats(log, model, tmp_path):
    recommender = sf.load(model)
    text = run("recommend", model, log, "--out", tmp_path / "a.parquet", "--batch-size", "7")
    assert "120 sessions" in text
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.names == ["SessionId", "Rank", "ItemId", "Score"]
    assert [str(kind) for kind in table.schema.types] == ["int64", "int32", "int64", "float"]
    columns = {name: table[name].to_numpy() for name in table.schema.names}
    assert columns["Rank"].tolist() == list(range(1, 21)) * 120
    rows = read_csv(log, "\t")
    for session in (0, 50, 119):
        clicks = [int(row["ItemId"]) for row in rows if int(row["SessionId"]) == session]
        items, scores = recommender.recommend([clicks])
        mine = columns["SessionId"] == session
        np.testing.assert_array_equal(columns["ItemId"][mine], items[0])
        np.testing.assert_array_equal(columns["Score"][mine], scores[0])
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        run("recommend", model, log, "--out", tmp_path / name)
        found = read_csv(tmp_path / name, delimiter)
        assert [int(row["ItemId"]) for row in found] == columns["ItemId"].tolist()
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.parquet", "a.tsv"]


def test_recommend_leaves_out_what_is_seen_and_fills_nothing_up(model, write, tmp_path):
    ids = sf.load(model).vocabulary.ids.tolist()
    sessions = write("s.txt", " ".join(map(str, ids[:-3])) + "\n999 998\n")
    out = tmp_path / "out.csv"
    text = run("recommend", model, sessions, "--out", out, "--k", "50", "--exclude-seen")
    assert "skipped 2 events of unknown items" in text
    first = [int(row["ItemId"]) for row in read_csv(out) if row["SessionId"] == "1"]
    assert sorted(first) == sorted(ids[-3:])
    assert len(read_csv(out)) == 3 + len(ids)


def test_string_ids_and_named_columns(write, tmp_path):
    rng = np.random.default_rng(0)
    items = [f"sku {n}" for n in rng.integers(0, 9, 200)]
    table = pa.table({"visitor": np.repeat(np.arange(40), 5).astype(str), "sku": items})
    log, out = tmp_path / "log.parquet", tmp_path / "recs.parquet"
    pq.write_table(table, log)
    columns = ["--session-column", "visitor", "--item-column", "sku"]
    run("train", log, "--out", tmp_path / "m.safetensors", *SMALL, *columns)
    run("recommend", tmp_path / "m.safetensors", log, "--out", out, "--k", "2", *columns)
    found = pq.read_table(out)
    assert [str(kind) for kind in found.schema.types] == ["string", "int32", "string", "float"]
    assert set(found["ItemId"].to_pylist()) <= set(items)
    assert "9 strings, such as sku 0, sku 1" in run("info", tmp_path / "m.safetensors")


def test_info(model):
    text = run("info", model)
    for fact in ("cell: gru", "hidden_size: 8", "format_version: 1", "integers, such as"):
        assert fact in text
    assert f"size: {os.path.getsize(model):,} bytes" in text


def test_info_without_a_model(capfd):
    # show_config prints, so that it is caught on the way out
    text = run("info") + capfd.readouterr().out
    assert "active_target: " in text


def test_demo(tmp_path):
    text = run("demo", "--quick", "--keep", tmp_path / "kept")
    for part in ("popularity", "item-kNN", "GRU4Rec", "best reachable", "PyTorch", "The demo took"):
        assert part in text
    assert sorted(os.listdir(tmp_path / "kept")) == ["model.safetensors", "test.tsv", "train.tsv"]
    run("evaluate", tmp_path / "kept/model.safetensors", tmp_path / "kept/test.tsv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad.csv is empty"),
        ("SessionId,ItemId\n", "bad.csv has no rows"),
        ("SessionId,Product\n1,2\n", "bad.csv has no column 'ItemId'; columns are SessionId,"),
        ("SessionId,ItemId,Time\n1,2,3\n1,2,soon\n", "bad.csv, row 2"),
        ("SessionId,ItemId,Time\n1,2,3\n1,,4\n", "bad.csv, row 2"),
        ("SessionId,ItemId\n1,2\n2,2\n", "no session is left of 2"),
        (
            "a,b\n1,2\n",
            "has no column 'SessionId'; columns are a, b (name it with --session-column)",
        ),
        ("1 2 3\n1 2 4\n", "say --format lines if a line is a session"),
        ("SessionId,ItemId\r1,2\r1,3\r", "bad.csv has lines that end in a carriage return alone"),
        ("PK\0\1\n\0", "bad.csv holds bytes that are no text; expected UTF-8 text or Parquet"),
        ("x" * 140_000, "bad.csv has a first line that is no row of a table: field larger"),
    ],
)
def test_bad_logs(write, tmp_path, text, message):
    log = write("bad.csv", text)
    output = run("train", log, "--out", tmp_path / "model.safetensors", *SMALL, code=1)
    assert message in output
    assert output.splitlines()[-1].startswith("Error: ")
    assert os.listdir(tmp_path) == ["bad.csv"]


def test_bad_row_late_in_a_file_leaves_no_output(model, write, tmp_path):
    rows = "".join(f"{session},{item},1\n" for session in range(50) for item in (1, 2))
    sessions = write("s.csv", "SessionId,ItemId,Time\n" + rows + "7,1,1\n")
    for name in ("out.csv", "out.parquet"):
        output = run(
            "recommend", model, sessions, "--out", tmp_path / name, "--batch-size", "3", code=1
        )
        assert "row 101: session 7 comes back" in output
    assert os.listdir(tmp_path) == ["s.csv"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["evaluate", "{no}", "{log}"], 1, "load_model: no file {no}"),
        (["evaluate", "{log}", "{log}"], 1, "{log} is truncated or no safetensors file"),
        (["evaluate", "{model}", "{no}"], 1, "read_log: no file {no}"),
        (["evaluate", "{model}", "{log}", "--k", "ten"], 2, "'ten' is no list of integers"),
        (["evaluate", "{model}", "{log}", "--k", "0,5"], 2, "0 is below 1"),
        (["recommend", "{model}", "{log}", "--out", "{no}.xlsx"], 2, "ends in '.xlsx'; expected"),
        (["recommend", "{model}", "{log}", "--out", "{no}/x.csv"], 1, "no folder {no}"),
        (["recommend", "{model}", "{log}", "--out", "{log}"], 1, "is an input, too"),
        (["train", "{no}", "--out", "{no}.st"], 1, "read_log: no file {no}"),
        (["train", "{log}", "--out", "{no}/model.st"], 1, "no folder {no}"),
        (["train", "{log}", "--out", "{no}.st", "--epochs", "0"], 1, "epochs is 0"),
        (["train", "{log}", "--out", "{no}.st", "--dropout-hidden", "1"], 1, "dropout_hidden"),
        (["train", "{log}", "--out", "{no}.st", "--resume"], 2, "--resume needs --checkpoint"),
        (["train", "{log}", "--out", "{no}.st", "--cell", "mlp"], 2, "'mlp' is not one of"),
        (
            ["train", "{log}", "--out", "{no}.st", "--valid", "{log}", "--leave-one-out"],
            2,
            "exclude each other",
        ),
        (
            ["train", "{log}", "--out", "{no}.st", "--device", "gpu"],
            1,
            "device is 'gpu'; expected auto, cpu, cuda or cuda:N",
        ),
        (["train", "{log}", "--out", "{no}/"], 1, "--out {no}/ is the name of a folder"),
        (["train", "{log}", "--out", "/dev/null"], 1, "--out /dev/null exists and is no regular"),
        (
            ["train", "{log}", "--out", "{no}.st", "--checkpoint", "{no}/"],
            1,
            "--checkpoint {no}/ is the name of a folder",
        ),
        (
            ["train", "{log}", "--out", "{no}.st", "--checkpoint", "{no}.st"],
            2,
            "--checkpoint and --out are both",
        ),
        (["train", "{log}", "--out", "{no}.st", "--seed", "9" * 23], 2, "is not in the range 0<=x"),
        (["train", "{log}", "--out", "{no}.st", "--lr", "inf"], 1, "lr is inf; expected a finite"),
        (
            ["train", "{log}", "--out", "{no}.st", "--embedding", "none", "--embedding-dim", "5"],
            2,
            "--embedding-dim has no effect with --embedding none",
        ),
        (
            ["train", "{log}", "--out", "{no}.st", "--session-column", "visit"],
            1,
            "has no column 'visit' (from --session-column)",
        ),
        (["convert", "gru4rec", "{log}", "{no}/"], 1, "OUT {no}/ is the name of a folder"),
        (["info", "{no}"], 1, "load_model: no file {no}"),
    ],
)
def test_wrong_arguments(log, model, tmp_path, arguments, code, message):
    names = {"no": tmp_path / "missing", "log": log, "model": model}
    output = run(*(argument.format(**names) for argument in arguments), code=code)
    # click breaks long lines of usage errors
    assert message.format(**names) in output.replace("\n", " ")
    assert os.listdir(tmp_path) == []


def test_log_without_known_items(model, write):
    output = run("evaluate", model, write("s.txt", "777 888\n888 777 999\n"), code=1)
    assert "leaves no session to predict in: 0 of 5 events" in output


def test_full_disk(log, model, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out.csv"
    for command in (["recommend", model, log], ["train", log, *SMALL]):
        assert f"No space left on device: '{out}'" in run(*command, "--out", out, code=1)
    assert os.listdir(tmp_path) == []


def test_interruption_leaves_no_output(log, model, tmp_path, monkeypatch):
    calls = []
    recommend = sf.Recommender.recommend

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return recommend(*arguments, **options)

    monkeypatch.setattr(sf.Recommender, "recommend", interrupted)
    output = run(
        "recommend", model, log, "--out", tmp_path / "o.parquet", "--batch-size", "9", code=1
    )
    assert "Aborted!" in output
    assert os.listdir(tmp_path) == []


def test_diverged_training_is_one_line(log, tmp_path):
    output = run("train", log, "--out", tmp_path / "m.st", *SMALL, "--lr", "1e37", code=1)
    assert output.splitlines()[-1].startswith("Error: ")
    assert os.listdir(tmp_path) == []


def test_debug_shows_where(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        run("--debug", "info", tmp_path / "missing")


def test_training_without_torch_says_what_to_install(log, tmp_path):
    program = (
        "import sys; sys.modules['torch'] = None; from seqrec_fast.cli import main; "
        f"main({json.dumps(['train', str(log), '--out', str(tmp_path / 'm.st')])})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stderr == "Error: train needs PyTorch: pip install seqrec-fast[train]\n"
    assert result.returncode == 1
