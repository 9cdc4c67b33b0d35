"""RecBole's GRU4Rec, if the package is installed."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers import PeerMissingError
from seqrec_fast.data import Sessions


class RecBoleGru4Rec:
    """
    One epoch of it, with its own data loader; `seconds` is the training alone.

    Parameters
    ----------
    sessions : Sessions
        Every pair of neighbouring events is a sample, as there: the history up to 50 events.
    options : dict
        Of its configuration; what is absent is as it comes.

    Raises
    ------
    PeerMissingError
        If RecBole, or something that it needs, is not installed.
    """

    def __init__(self, sessions: Sessions, options: dict[str, Any]) -> None:
        try:
            from recbole.config import Config
            from recbole.data import create_dataset, data_preparation
            from recbole.utils import get_model, get_trainer, init_seed
        except ImportError as error:
            raise PeerMissingError(f"RecBole is not installed ({error})") from error
        _restore_names()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it writes logs
            _write(sessions, Path(folder, "log"))
            config = Config(
                model="GRU4Rec",
                dataset="log",
                config_dict={
                    "data_path": folder, "USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item",
                    "TIME_FIELD": "time", "load_col": {"inter": ["user", "item", "time"]},
                    "train_neg_sample_args": None, "use_gpu": False, "epochs": 1,
                    "show_progress": False, "state": "ERROR", "checkpoint_dir": folder,
                    "eval_args": {
                        "split": {"RS": [1.0, 0.0, 0.0]}, "order": "TO", "group_by": "user",
                        "mode": "full",
                    },
                    **options,
                },
            )  # fmt: skip
            init_seed(0, True)
            dataset = create_dataset(config)
            self._samples = data_preparation(config, dataset)[0]
            model = get_model("GRU4Rec")(config, self._samples.dataset)
            self._trainer = get_trainer(config["MODEL_TYPE"], "GRU4Rec")(config, model)
        self.seconds = 0.0

    def __call__(self) -> None:
        """Train for one epoch."""
        begin = time.perf_counter()
        self._trainer._train_epoch(self._samples, 0)
        self.seconds = time.perf_counter() - begin


def _restore_names() -> None:
    """RecBole 1.2 uses names that NumPy 2 no longer has."""
    old = {
        "bool_": np.bool_, "float_": np.float64, "complex_": np.complex128,
        "object_": np.object_, "unicode_": np.str_, "str_": np.str_,
    }  # fmt: skip
    for name, kind in old.items():
        if not hasattr(np, name):
            setattr(np, name, kind)


def _write(sessions: Sessions, folder: Path) -> None:
    folder.mkdir()
    users = np.repeat(np.arange(len(sessions)), sessions.lengths)
    columns = (users, sessions.items, np.arange(sessions.n_events))
    with open(folder / "log.inter", "w", encoding="utf-8") as file:
        file.write("user:token\titem:token\ttime:float\n")
        np.savetxt(file, np.stack(columns, axis=1), fmt="%d", delimiter="\t")
