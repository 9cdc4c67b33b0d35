"""Modules from model files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from seqrec_fast.data import ItemVocabulary
from seqrec_fast.io import load_model

from .dien import DIEN
from .din import DIN
from .gru4rec import GRU4Rec
from .recurrent_ctr import RecurrentCTR
from .theme_mixture import ThemeMixture

if TYPE_CHECKING:
    import os

_MODELS: dict[str, Any] = {
    "gru4rec": GRU4Rec,
    "theme_mixture": ThemeMixture,
    **{model.model_name: model for model in (DIN, DIEN, RecurrentCTR)},
}


def load_module(
    path: str | os.PathLike[str], device: torch.device | str = "cpu"
) -> tuple[Any, ItemVocabulary]:
    """
    Make the module that a model file holds: the inverse of its ``export``.

    Parameters
    ----------
    path : str or path-like
    device : torch.device or str

    Returns
    -------
    model : Module
        In evaluation mode.
    vocabulary : ItemVocabulary
        The user's ids of its items.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`seqrec_fast.io.load_model`.
    """
    file = load_model(path)
    model = _MODELS[file.model](**file.config)
    tensors = {name: torch.from_numpy(array) for name, array in file.tensors.items()}
    model.load_state_dict(tensors)
    return model.to(device).eval(), ItemVocabulary(file.item_ids)
