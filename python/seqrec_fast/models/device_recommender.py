"""Recommendations by a module, on the device that it is on."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike

from seqrec_fast._checks import checked_flag
from seqrec_fast._item_scorer import Floats, KnownItems
from seqrec_fast.data.vocabulary import Ids, ItemVocabulary
from seqrec_fast.nn.functional import topk
from seqrec_fast.recommender import ragged

from .gru4rec import GRU4Rec


class DeviceRecommender(KnownItems):
    """
    Recommends as :class:`seqrec_fast.Recommender` does, many sessions at a time, on a GPU.

    Parameters
    ----------
    model : GRU4Rec
        In evaluation mode, on any device.
    vocabulary : ItemVocabulary

    Raises
    ------
    TypeError
        If the model is another one.
    """

    #: Times of events have no effect on the model.
    uses_times = False

    def __init__(self, model: GRU4Rec, vocabulary: ItemVocabulary) -> None:
        if not isinstance(model, GRU4Rec):
            raise TypeError(
                f"DeviceRecommender: model is a {type(model).__name__}; expected a GRU4Rec"
            )
        super().__init__(vocabulary)
        self.model = model

    @torch.no_grad()
    def recommend(
        self,
        sessions: Any,
        k: int = 20,
        exclude_seen: bool = False,
        *,
        offsets: ArrayLike | None = None,
    ) -> tuple[Ids, Floats]:
        """Return the best items of each session, see :meth:`seqrec_fast.Recommender.recommend`."""
        exclude_seen = checked_flag("DeviceRecommender.recommend", "exclude_seen", exclude_seen)
        ids, bounds = ragged(sessions, offsets, "DeviceRecommender.recommend: sessions")
        device = self.model.item_table.device
        items, bounds, _ = self.known_items(ids, bounds)
        seen, ends = (torch.from_numpy(array).to(device) for array in (items, bounds))
        state = self.model(seen, ends)[1]
        # of the top layer after the last event, zeros for a session without one
        hidden = self.model.project((state[0] if isinstance(state, tuple) else state)[-1])
        scores, found = topk(
            hidden, self.model.item_table, self.at_most_all(k), bias=self.model.output.bias,
            exclude=(seen, ends) if exclude_seen else None,
        )  # fmt: skip
        return self.named(found.cpu().numpy()), scores.cpu().numpy()
