"""The official PyTorch GRU4Rec, from a checkout that GRU4REC_OFFICIAL names."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.peers import PeerMissingError
from seqrec_fast.data import Sessions


class OfficialGru4Rec:
    """
    One epoch of it; `seconds` is the training alone.

    Parameters
    ----------
    sessions : Sessions
    options : dict
        Of its GRU4Rec class.

    Raises
    ------
    PeerMissingError
        If GRU4REC_OFFICIAL is not set, or pandas is not installed.
    """

    def __init__(self, sessions: Sessions, options: dict[str, Any]) -> None:
        folder = os.environ.get("GRU4REC_OFFICIAL", "")
        if not Path(folder, "gru4rec_pytorch.py").is_file():
            raise PeerMissingError(
                "GRU4REC_OFFICIAL is not the folder of a checkout of GRU4Rec_PyTorch_Official"
            )
        try:
            import pandas as pd
        except ImportError as error:
            raise PeerMissingError("pandas is not installed") from error
        sys.path.insert(0, folder)
        self._module = importlib.import_module("gru4rec_pytorch")
        sys.path.remove(folder)
        numbers = np.repeat(np.arange(len(sessions)), sessions.lengths)
        self._data = pd.DataFrame(
            {
                "SessionId": numbers,
                "ItemId": sessions.items,
                "Time": np.arange(sessions.n_events, dtype=np.float64),
            }
        )
        self._options = options
        self.seconds = 0.0

    def __call__(self) -> None:
        """Train anew, for one epoch."""
        torch.manual_seed(0)
        model = self._module.GRU4Rec(device=torch.device("cpu"), n_epochs=1, **self._options)
        step = self._module.IndexedAdagradM.step
        marks = []

        def timed(*arguments: Any, **named: Any) -> Any:
            result = step(*arguments, **named)
            marks.append(time.perf_counter())
            return result

        # From the first step on: preparing the data is not training.
        self._module.IndexedAdagradM.step = timed
        try:
            model.fit(self._data, sample_cache_max_size=1_000_000, compatibility_mode=False)
        finally:
            self._module.IndexedAdagradM.step = step
        self.seconds = (marks[-1] - marks[0]) / (len(marks) - 1) * len(marks)
