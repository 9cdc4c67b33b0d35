"""What the click-through models share: item embeddings, the head, the model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast._click_model_format import check_click_config
from seqrec_fast.nn._mlp import MLP
from seqrec_fast.nn.functional import segment_mean

from ._arguments import check_in_catalogue, plain_config
from ._export import export_model

if TYPE_CHECKING:
    import os

    from seqrec_fast.data import ItemVocabulary


class ClickThroughModel(torch.nn.Module):
    """
    Base of the models that tell how likely a user with a history clicks on a target item.

    A model turns the history into a vector u, its "interest". With q the embedding of the target
    and s the mean of those of the history, the logit is ``MLP([q, s, q * s, u])``: the inputs that
    the authors of DIEN give to all models they compare, with a mean for their sum.

    Attributes
    ----------
    config : dict
        Sizes and kinds, as they stand in a model file.
    """

    #: What the model is trained for.
    task = "click-through"
    #: Name in model files.
    model_name: str

    config: dict[str, Any]

    def __init__(self, config: dict[str, Any], seed: int | None) -> None:
        super().__init__()
        config = plain_config(config)
        check_click_config(f"{type(self).__name__}: ", self.model_name, config)
        self.config = config
        width = config["embedding_dim"]
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.embedding = torch.nn.Embedding(config["n_items"], width)
            torch.nn.init.normal_(self.embedding.weight, std=0.05)
            self.build()
            self.head = MLP(
                3 * width + self.interest_size, config["head_sizes"], config["activation"],
                config["dropout"],
            )  # fmt: skip

    def build(self) -> None:
        """Make the parts of the model beside embedding and head."""
        raise NotImplementedError

    @property
    def interest_size(self) -> int:
        """Width of the vector that :meth:`interest` returns."""
        raise NotImplementedError

    def interest(self, query: Tensor, events: Tensor, offsets: Tensor, items: Tensor) -> Tensor:
        """
        Return what of each history matters to its target.

        Parameters
        ----------
        query : (B, D) Tensor
            Embeddings of the targets.
        events : (N, D) Tensor
            Embeddings of the histories.
        offsets : (B + 1,) int64 Tensor
        items : (N,) int64 Tensor
            The items of the histories.

        Returns
        -------
        (B, interest_size) Tensor
        """
        raise NotImplementedError

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return int(self.config["n_items"])

    def forward(
        self, items: Tensor, offsets: Tensor, target: Tensor, times: Tensor | None = None
    ) -> Tensor:
        """
        Return the logit of a click on one target after each history.

        Parameters
        ----------
        items : (events,) int64 Tensor
            History after history, oldest event first.
        offsets : (B + 1,) int64 Tensor
            History b is ``items[offsets[b]:offsets[b + 1]]``; it may be empty.
        target : (B,) int64 Tensor
        times : (events,) float64 Tensor, optional
            Has no effect on this model.

        Returns
        -------
        (B,) Tensor

        Raises
        ------
        IndexError
            If an item is out of range.
        ValueError
            If a shape does not fit, or offsets are no partition of the events.
        """
        check_in_catalogue(
            f"{type(self).__name__}.forward", self.n_items, items=items, target=target
        )
        share = self.config["dropout_embedding"]
        query = functional.dropout(self.embedding(target), share, self.training)
        events = functional.dropout(self.embedding(items), share, self.training)
        interest = self.interest(query, events, offsets, items)
        mean = segment_mean(events, offsets)
        return self.head(torch.cat([query, mean, query * mean, interest], 1))  # type: ignore[no-any-return]

    def auxiliary_loss(self) -> Tensor | None:
        """Return what the training of the last batch adds to the loss, None for nothing."""
        return None

    def export(self, path: str | os.PathLike[str], vocabulary: ItemVocabulary) -> None:
        """
        Write the model file that :func:`seqrec_fast.load` serves without PyTorch.

        Parameters
        ----------
        path : str or path-like
        vocabulary : ItemVocabulary
            The user's ids of the ``n_items`` items.

        Raises
        ------
        ValueError
            If the vocabulary has another size, or a weight is not finite.
        OSError
            If the file cannot be written; nothing is left under its name then.
        """
        export_model(self, self.model_name, path, vocabulary)
