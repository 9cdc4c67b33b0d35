"""DIN: a history is what of it fits the target."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seqrec_fast.nn import AttentionPooling

from ._click_through import ClickThroughModel


class DIN(ClickThroughModel):
    """
    Deep interest network of Zhou et al. (2018, arXiv:1706.06978).

    The interest is the sum of the events' embeddings, each weighed by how it fits the target, see
    :class:`seqrec_fast.nn.AttentionPooling`. The order of events has no effect. Histories are
    ragged: nothing is padded.

    Parameters
    ----------
    n_items : int
        Size of the catalogue; items are 0 to ``n_items - 1``.
    embedding_dim : int
        Width D of the item embeddings.
    attention_sizes : sequence of int
        Hidden layers of the attention's MLP.
    softmax : bool
        Weights of a history sum to 1.
    head_sizes : sequence of int
        Hidden layers of the MLP over target and history.
    activation : {"relu", "prelu", "sigmoid", "dice"}
        Of both MLPs, see :class:`seqrec_fast.nn.Dice`.
    dropout_embedding, dropout : float
        Share of the elements zeroed in training: of embeddings, and after the head's activations.
    seed : int, optional
        Fixes the initial parameters; by default they come from PyTorch's global generator.

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
    >>> from seqrec_fast.models import DIN
    >>> model = DIN(n_items=50)
    >>> model(torch.tensor([7, 3, 9]), torch.tensor([0, 2, 3]), torch.tensor([4, 4])).shape
    torch.Size([2])
    """

    model_name = "din"

    def __init__(
        self,
        n_items: int,
        *,
        embedding_dim: int = 32,
        attention_sizes: Sequence[int] = (64, 32),
        softmax: bool = False,
        head_sizes: Sequence[int] = (128, 64),
        activation: str = "prelu",
        dropout_embedding: float = 0.0,
        dropout: float = 0.0,
        seed: int | None = None,
    ) -> None:
        config = {
            "n_items": n_items,
            "embedding_dim": embedding_dim,
            "attention_sizes": list(attention_sizes),
            "softmax": softmax,
            "head_sizes": list(head_sizes),
            "activation": activation,
            "dropout_embedding": dropout_embedding,
            "dropout": dropout,
        }
        super().__init__(config, seed)

    def build(self) -> None:
        """Make the attention."""
        config = self.config
        self.attention = AttentionPooling(
            config["embedding_dim"], config["attention_sizes"],
            activation=config["activation"], softmax=config["softmax"],
        )  # fmt: skip

    @property
    def interest_size(self) -> int:
        """That of the embeddings."""
        return int(self.config["embedding_dim"])

    def interest(self, query: Tensor, events: Tensor, offsets: Tensor, items: Tensor) -> Tensor:
        """Return the weighted sum of each history."""
        return self.attention(query, events, offsets)  # type: ignore[no-any-return]
