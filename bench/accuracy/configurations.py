"""What is trained on which log, and what was chosen how: see bench/results/accuracy.md."""

from __future__ import annotations

from typing import Any, NamedTuple


class Log(NamedTuple):
    """Files of a log, and its protocol; no test file: the last item of each session."""

    train: str
    test: str | None
    k: int
    measures: tuple[str, str]


class Configuration(NamedTuple):
    log: str
    model: dict[str, Any]
    training: dict[str, Any]


YOOCHOOSE = Log("train_full.tsv", "test.tsv", 20, ("recall", "mrr"))
DIGINETICA = Log("train_sessions.txt", "test_sessions.txt", 20, ("recall", "mrr"))
MOVIELENS = Log("ml1m_user_item_time.tsv.gz", None, 10, ("recall", "ndcg"))
BEAUTY = Log("beauty.txt", None, 10, ("recall", "ndcg"))

LOGS = {"yoochoose": YOOCHOOSE, "diginetica": DIGINETICA, "ml1m": MOVIELENS, "beauty": BEAUTY}


def _width(size: int, dropout_embedding: float, dropout_hidden: float) -> dict[str, Any]:
    return {
        "embedding_dim": size,
        "hidden_size": size,
        "dropout_embedding": dropout_embedding,
        "dropout_hidden": dropout_hidden,
    }


# The mini-batches, dropout and optimiser of the official GRU4Rec.
_GRU4REC = {
    "batching": "session-parallel",
    "optimizer": "adagrad",
    "lr_decay": False,
    "carry_dropout": True,
    "alpha": 0.3,
}

CONFIGURATIONS = {
    "yoochoose": Configuration("yoochoose", {}, {}),
    "yoochoose-official": Configuration(
        "yoochoose",
        _width(100, 0.3, 0.05),
        {
            **_GRU4REC, "epochs": 10, "batch_size": 32, "loss": "bpr-max", "collisions": "own",
            "lr": 0.05, "momentum": 0.3, "bpreg": 1.0, "elu": 0.5,
        },
    ),
    "diginetica": Configuration(
        "diginetica",
        _width(128, 0.3, 0.2),
        {
            **_GRU4REC, "epochs": 5, "average_epochs": 2, "batch_size": 128, "lr": 0.07,
            "momentum": 0.3,
        },
    ),
    "diginetica-official": Configuration(
        "diginetica",
        _width(128, 0.3, 0.2),
        {
            **_GRU4REC, "epochs": 5, "batch_size": 128, "lr": 0.07, "loss": "sampled",
            "collisions": "own",
        },
    ),
    "ml1m": Configuration(
        "ml1m",
        _width(128, 0.2, 0.2),
        {"epochs": 3, "lr": 0.01, "weight_decay": 0.1},
    ),
}  # fmt: skip
