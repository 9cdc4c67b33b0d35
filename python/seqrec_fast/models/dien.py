"""DIEN: interests as states of a GRU, and their evolution towards the target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast.nn import AUGRU, GRU, BilinearAttention

from ._click_through import ClickThroughModel


class DIEN(ClickThroughModel):
    """
    Deep interest evolution network of Zhou et al. (2019, arXiv:1809.03672).

    A GRU makes an interest state h of each event; attention says how each fits the target; an
    AUGRU runs over the states, its updates weighed by the attention. The interest is its last
    state. Histories are ragged: nothing is padded, and no step is taken in Python.

    Parameters
    ----------
    n_items : int
        Size of the catalogue; items are 0 to ``n_items - 1``.
    embedding_dim : int
        Width D of the item embeddings.
    hidden_size : int
        Width of both recurrent layers.
    attention_mode : {"augru_tf", "augru_paper", "agru", "aigru"}
        What the second layer does with the attention, see :class:`seqrec_fast.nn.AUGRU`. The
        default is what the authors' code computes. Their paper's formula, ``"augru_paper"``, hardly
        moves a state where a long history shares an attention of 1.
    auxiliary_weight : float
        Of the auxiliary loss in training: each state h is to have a greater product with the
        embedding of the next item than with that of an item drawn uniformly (equation 6 of the
        paper). 0: none; else it needs ``hidden_size == embedding_dim``.
    head_sizes, activation, dropout_embedding, dropout, seed
        As in :class:`DIN`.

    Attributes
    ----------
    config : dict
        The parameters above, as they stand in a model file.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> from seqrec_fast.models import DIEN
    >>> model = DIEN(n_items=50)
    >>> model(torch.tensor([7, 3, 9]), torch.tensor([0, 2, 3]), torch.tensor([4, 4])).shape
    torch.Size([2])
    """

    model_name = "dien"

    def __init__(
        self,
        n_items: int,
        *,
        embedding_dim: int = 32,
        hidden_size: int = 32,
        attention_mode: str = "augru_tf",
        auxiliary_weight: float = 0.0,
        head_sizes: Sequence[int] = (128, 64),
        activation: str = "prelu",
        dropout_embedding: float = 0.0,
        dropout: float = 0.0,
        seed: int | None = None,
    ) -> None:
        config = {
            "n_items": n_items,
            "embedding_dim": embedding_dim,
            "hidden_size": hidden_size,
            "attention_mode": attention_mode,
            "auxiliary_weight": auxiliary_weight,
            "head_sizes": list(head_sizes),
            "activation": activation,
            "dropout_embedding": dropout_embedding,
            "dropout": dropout,
        }
        super().__init__(config, seed)
        self._auxiliary: Tensor | None = None

    def build(self) -> None:
        """Make the two recurrent layers and the attention between them."""
        config = self.config
        width, hidden_size = config["embedding_dim"], config["hidden_size"]
        self.extractor = GRU(width, hidden_size)
        self.attention = BilinearAttention(hidden_size, width)
        self.evolution = AUGRU(hidden_size, hidden_size, mode=config["attention_mode"])

    @property
    def interest_size(self) -> int:
        """That of the states."""
        return int(self.config["hidden_size"])

    def interest(self, query: Tensor, events: Tensor, offsets: Tensor, items: Tensor) -> Tensor:
        """Return the last state of the second layer, zeros for an empty history."""
        states, _ = self.extractor(events, offsets=offsets)
        if self.training and self.config["auxiliary_weight"]:
            self._auxiliary = self._next_item_loss(states, offsets, items)
        attention = self.attention(query, states, offsets)
        return self.evolution(states, attention, offsets=offsets)[1][0]  # type: ignore[no-any-return]

    def auxiliary_loss(self) -> Tensor | None:
        """Return the weighted auxiliary loss of the last batch, and forget it."""
        loss, self._auxiliary = self._auxiliary, None
        return loss

    def _next_item_loss(self, states: Tensor, offsets: Tensor, items: Tensor) -> Tensor | None:
        has_next = torch.ones(len(items), dtype=torch.bool, device=items.device)
        has_next[offsets[1:][offsets.diff() > 0] - 1] = False
        before = has_next.nonzero()[:, 0]
        if len(before) == 0:
            return None
        own = states.index_select(0, before)
        drawn = torch.randint(self.n_items, (len(before),), device=items.device)
        right = (own * self.embedding(items[before + 1])).sum(1)
        wrong = (own * self.embedding(drawn)).sum(1)
        # -log sigmoid(right) - log(1 - sigmoid(wrong))
        loss = functional.softplus(-right) + functional.softplus(wrong)
        return self.config["auxiliary_weight"] * loss.mean()  # type: ignore[no-any-return]
