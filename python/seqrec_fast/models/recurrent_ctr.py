"""RecurrentCTR: the state of a recurrent network over the history, as a baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqrec_fast.nn import AUGRU, GRU, LSTM, BilinearAttention

from ._click_through import ClickThroughModel


class RecurrentCTR(ClickThroughModel):
    """
    Click-through model whose interest is the last state of one recurrent layer.

    It is what DIN, DIEN and mixtures have to beat: the same embeddings and head, and nothing else.

    Parameters
    ----------
    n_items : int
        Size of the catalogue; items are 0 to ``n_items - 1``.
    cell : {"gru", "lstm", "augru"}
        ``"augru"``: a GRU whose updates are weighed by how an event fits the target, see
        :class:`seqrec_fast.nn.BilinearAttention`; else the state does not depend on the target.
    attention_mode : str
        Of the cell ``"augru"``, see :class:`seqrec_fast.nn.AUGRU`.
    embedding_dim : int
        Width D of the item embeddings.
    hidden_size : int
        Width of the state.
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
    """

    model_name = "recurrent_ctr"

    def __init__(
        self,
        n_items: int,
        *,
        cell: str = "gru",
        attention_mode: str = "augru_tf",
        embedding_dim: int = 32,
        hidden_size: int = 32,
        head_sizes: Sequence[int] = (128, 64),
        activation: str = "prelu",
        dropout_embedding: float = 0.0,
        dropout: float = 0.0,
        seed: int | None = None,
    ) -> None:
        config = {
            "n_items": n_items,
            "cell": cell,
            "attention_mode": attention_mode,
            "embedding_dim": embedding_dim,
            "hidden_size": hidden_size,
            "head_sizes": list(head_sizes),
            "activation": activation,
            "dropout_embedding": dropout_embedding,
            "dropout": dropout,
        }
        super().__init__(config, seed)

    def build(self) -> None:
        """Make the recurrent layer."""
        config = self.config
        width, hidden_size = config["embedding_dim"], config["hidden_size"]
        if config["cell"] == "augru":
            self.attention = BilinearAttention(width, width)
            self.rnn: torch.nn.RNNBase = AUGRU(width, hidden_size, mode=config["attention_mode"])
        else:
            cell = LSTM if config["cell"] == "lstm" else GRU
            self.rnn = cell(width, hidden_size)

    @property
    def interest_size(self) -> int:
        """That of the state."""
        return int(self.config["hidden_size"])

    def interest(self, query: Tensor, events: Tensor, offsets: Tensor, items: Tensor) -> Tensor:
        """Return the last state of each history, zeros for an empty one."""
        if self.config["cell"] == "augru":
            attention = self.attention(query, events, offsets)
            return self.rnn(events, attention, offsets=offsets)[1][0]  # type: ignore[no-any-return]
        state = self.rnn(events, offsets=offsets)[1]
        return state[0][0] if self.config["cell"] == "lstm" else state[0]  # type: ignore[no-any-return]
