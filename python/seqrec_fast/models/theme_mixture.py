"""ThemeMixture: one recurrent state per latent theme of a user, beside a global one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast.nn.functional import linear_cross_entropy

from ._arguments import check_in_catalogue, plain_config
from ._export import export_model
from ._theme_encoder import EncodedHistories, ThemeEncoder
from ._theme_parts import Output, check_config, events_with_next, last_rows, theme_logits

if TYPE_CHECKING:
    import os

    from seqrec_fast.data import ItemVocabulary


class ThemeMixture(ThemeEncoder):
    """
    Recommender for long histories in which interests hop between sessions and come back.

    Each event goes to the latent theme of its session, and a recurrent expert follows each theme
    of each user: what the user did under the same theme, sessions ago, is the step before. Next to
    it stand a recurrent network over the whole history and the mean of the session so far. Inspired
    by arXiv:2604.20858; not a re-implementation.

    With e the embedding of an event's item, unit length where it is routed::

        z = mean over the session so far of gate.weight @ (e / |e|) * 8
        p, m = the k largest of softmax(z) and their themes
        h_m  = theme_rnn over the events of theme m alone, in time order
        h    = fusion([global_rnn; mean of e over the session so far; sum of p_m h_m])

    and the score of item i is ``h @ embedding.weight[i] + output.bias[i]``. A route uses nothing
    that comes later, so events can be served one by one: an event changes the states of its k
    themes alone. At k=1 the experts together read each event once, however many themes there are.

    The gate learns from the mutual information of the themes of neighbours in a session (Ji et
    al., 2019, arXiv:1807.06653), which is greatest if sessions are of one theme and all themes are
    used; it is part of :meth:`auxiliary_loss`.

    Parameters
    ----------
    n_items : int
        Size of the catalogue; items are 0 to ``n_items - 1``.
    task : {"next-item", "click-through"}
        What it is trained for. ``"click-through"`` adds a head over target and history; the
        theme states are then those of the target's own themes.
    hidden_size : int
        Width of embeddings and states.
    n_themes : int
        0: no theme experts, for comparison.
    k : int
        Themes that an event goes to.
    session_gap : float
        A session ends where more than so many seconds pass.
    session_window : int
        Without times: a session is so many events.
    theme_loss, next_item_loss : float
        Weights in :meth:`auxiliary_loss`; the second is for ``"click-through"`` alone.
    dropout_embedding, dropout_hidden : float
        Share of the elements zeroed in training: of the embeddings, of what is scored.
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
    TypeError
        If a size is no integer, or another number none.

    Examples
    --------
    >>> import torch
    >>> from seqrec_fast.models import ThemeMixture
    >>> model = ThemeMixture(50, hidden_size=16, n_themes=4)
    >>> hidden, _ = model.run(model.input_table[[7, 3, 9]], torch.tensor([0, 2, 3]))
    >>> model.scores(hidden).shape
    torch.Size([3, 50])
    """

    #: Tells the trainer to hand over the times of events.
    uses_times = True

    def __init__(
        self,
        n_items: int,
        *,
        task: str = "next-item",
        hidden_size: int = 64,
        n_themes: int = 8,
        k: int = 1,
        session_gap: float = 1800.0,
        session_window: int = 10,
        theme_loss: float = 1.0,
        next_item_loss: float = 1.0,
        dropout_embedding: float = 0.1,
        dropout_hidden: float = 0.1,
        seed: int | None = None,
    ) -> None:
        config: dict[str, Any] = {
            "n_items": n_items,
            "task": task,
            "hidden_size": hidden_size,
            "n_themes": n_themes,
            "k": k,
            "session_gap": session_gap,
            "session_window": session_window,
            "theme_loss": theme_loss,
            "next_item_loss": next_item_loss,
            "dropout_embedding": dropout_embedding,
            "dropout_hidden": dropout_hidden,
        }
        config = plain_config(config)
        check_config(config)
        hidden_size, n_themes = config["hidden_size"], config["n_themes"]
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            super().__init__(config)
            self.fusion = torch.nn.Linear((3 if n_themes else 2) * hidden_size, hidden_size)
            self.output = Output(config["n_items"])
            if task == "click-through":
                self.head = torch.nn.Sequential(
                    torch.nn.Linear(3 * hidden_size, hidden_size),
                    torch.nn.ReLU(),
                    torch.nn.Linear(hidden_size, 1),
                )

    @property
    def task(self) -> str:
        """What the model is trained for, ``"next-item"`` or ``"click-through"``."""
        return str(self.config["task"])

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return int(self.config["n_items"])

    @property
    def input_table(self) -> Tensor:
        """(n_items, H) embeddings of the input."""
        return self.embedding.weight

    @property
    def item_table(self) -> Tensor:
        """(n_items, H) embeddings that the scores are made with: those of the input."""
        return self.embedding.weight

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
            History b is ``items[offsets[b]:offsets[b + 1]]``.
        target : (B,) int64 Tensor
        times : (events,) float64 Tensor, optional
            Seconds. Without them sessions are ``session_window`` events long.

        Returns
        -------
        (B,) Tensor

        Raises
        ------
        RuntimeError
            If the task is not ``"click-through"``.
        IndexError
            If an item is out of range.
        """
        if self.config["task"] != "click-through":
            raise RuntimeError(
                "ThemeMixture.forward: task is 'next-item'; expected 'click-through' (next items "
                "are scored by run and scores)"
            )
        check_in_catalogue("ThemeMixture.forward", self.n_items, items=items, target=target)
        encoded = self.encode(functional.embedding(items, self.input_table), offsets, times)
        if self.training:
            self._add_next_item_loss(encoded, items, offsets)
        asked = functional.embedding(target, self.item_table)
        told = [encoded.global_state, last_rows(encoded.of_events[1], offsets)]
        if encoded.theme_states is not None:
            weights, themes = self.route(theme_logits(asked, self.gate.weight))
            rows = torch.arange(len(target), device=target.device)[:, None]
            told.append((weights[:, :, None] * encoded.theme_states[themes, rows]).sum(1))
        hidden = functional.dropout(
            self.fusion(torch.cat(told, 1)), self.config["dropout_hidden"], self.training
        )
        fit = asked * hidden
        more: Tensor = self.head(torch.cat([asked, hidden, fit], 1))[:, 0]
        return more + fit.sum(1) + self.output.bias[target]

    def run(
        self,
        inputs: Tensor,
        offsets: Tensor,
        state: Any = None,
        reset: Tensor | None = None,
        times: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """
        Run over whole histories, given their rows of ``input_table``.

        Parameters
        ----------
        inputs : (events, H) Tensor
        offsets, times
            As in :meth:`forward`.
        state, reset
            None: in training a history comes as a whole (``batching="whole-session"``).

        Returns
        -------
        hidden : (events, H) Tensor
            After each event, with dropout in training; see :meth:`scores`.
        state : None

        Raises
        ------
        ValueError
            If there is a state or a reset.
        """
        if state is not None or reset is not None:
            raise ValueError(
                "ThemeMixture.run: state or reset is given; expected whole histories "
                "(batching='whole-session')"
            )
        return self._fused(self.encode(inputs, offsets, times)), None

    def scores(self, hidden: Tensor) -> Tensor:
        """Score all items as the next one: (events, H) to (events, n_items)."""
        return functional.linear(hidden, self.item_table, self.output.bias)

    def _fused(self, encoded: EncodedHistories) -> Tensor:
        hidden = self.fusion(torch.cat(encoded.of_events, 1))
        return functional.dropout(hidden, self.config["dropout_hidden"], self.training)

    def _add_next_item_loss(
        self, encoded: EncodedHistories, items: Tensor, offsets: Tensor
    ) -> None:
        events = events_with_next(offsets)
        if not self.config["next_item_loss"] or not len(events):
            return
        loss = linear_cross_entropy(
            self._fused(encoded)[events], self.item_table, items[events + 1], self.output.bias
        )
        loss = self.config["next_item_loss"] * loss
        self._auxiliary = loss if self._auxiliary is None else self._auxiliary + loss

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
        export_model(self, "theme_mixture", path, vocabulary)
