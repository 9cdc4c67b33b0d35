"""Click-through models in small, and their definitions one history at a time."""

from __future__ import annotations

from itertools import pairwise

import torch

from seqrec_fast.models import DIEN, DIN, RecurrentCTR

N_ITEMS = 11
ITEMS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
OFFSETS = torch.tensor([0, 3, 3, 4, 8])
TARGETS = torch.tensor([5, 3, 5, 8])

SMALL = {"embedding_dim": 6, "head_sizes": (7, 5), "seed": 3}
MODELS = {
    "din": (DIN, {"attention_sizes": (5, 4)}),
    "din, softmax, dice": (DIN, {"attention_sizes": (5,), "softmax": True, "activation": "dice"}),
    "dien": (DIEN, {"hidden_size": 6, "auxiliary_weight": 0.5}),
    "dien, paper": (DIEN, {"hidden_size": 4, "attention_mode": "augru_paper"}),
    "gru": (RecurrentCTR, {"hidden_size": 4, "activation": "relu"}),
    "lstm": (RecurrentCTR, {"cell": "lstm", "hidden_size": 5, "activation": "sigmoid"}),
    "augru": (RecurrentCTR, {"cell": "augru", "hidden_size": 5}),
}

NAMES = list(MODELS)


def small(name: str, **options):
    """Return a model in evaluation mode whose running averages are not those of the start."""
    kind, own = MODELS[name]
    model = kind(N_ITEMS, **{**SMALL, **own, **options})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.embedding.weight.normal_(generator=generator)
        for part, tensor in model.state_dict().items():
            if part.endswith(("running_mean", "alpha")):
                tensor.normal_(generator=generator)
            elif part.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
    return model.eval()


def histories():
    return [ITEMS[begin:end] for begin, end in pairwise(OFFSETS.tolist())]
