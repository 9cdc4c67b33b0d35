"""Model files of trained modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import os

    from seqrec_fast.data import ItemVocabulary


def export_model(
    model: Any, name: str, path: str | os.PathLike[str], vocabulary: ItemVocabulary
) -> None:
    """Write config, weights and vocabulary of a model whose kind is `name`; see its `export`."""
    from seqrec_fast.io import save_model

    if len(vocabulary) != model.n_items:
        raise ValueError(
            f"{type(model).__name__}.export: vocabulary has {len(vocabulary)} items; expected "
            f"{model.n_items}"
        )
    tensors = {
        key: tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        for key, tensor in model.state_dict().items()
    }
    save_model(path, name, model.config, tensors, vocabulary.ids)
