"""The experts of ThemeMixture: global, short-term, and one per theme."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast.nn import GRU
from seqrec_fast.nn.functional import combine_by_expert, dispatch_by_expert, expert_gate

from ._arguments import check_in_catalogue
from ._theme_parts import (
    session_mean_so_far,
    session_position,
    theme_logits,
    theme_mutual_information,
)


class EncodedHistories(NamedTuple):
    """What the experts say of all events, and of the histories after the last one.

    Attributes
    ----------
    of_events : list of (N, H) Tensor
        Global, short-term and, where there are themes, theme.
    global_state : (B, H) Tensor
    theme_states : (n_themes, B, H) Tensor or None
    """

    of_events: list[Tensor]
    global_state: Tensor
    theme_states: Tensor | None


class ThemeEncoder(torch.nn.Module):
    """Embeddings, gate and experts of :class:`ThemeMixture`, whose equations these are."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self._auxiliary: Tensor | None = None
        size, n_themes = config["hidden_size"], config["n_themes"]
        self.embedding = torch.nn.Embedding(config["n_items"], size)
        torch.nn.init.xavier_uniform_(self.embedding.weight)
        self.global_rnn = GRU(size, size)
        if n_themes:
            self.gate = torch.nn.Linear(size, n_themes, bias=False)
            # wide enough that themes differ from the start
            torch.nn.init.normal_(self.gate.weight)
            self.theme_rnn = GRU(size, size)

    def encode(self, inputs: Tensor, offsets: Tensor, times: Tensor | None) -> EncodedHistories:
        """Run all experts over whole histories, given (events, H) rows of the embedding."""
        position = self._session_position(offsets, times, inputs.shape[0])
        x = functional.dropout(inputs, self.config["dropout_embedding"], self.training)
        of_global, global_state = self.global_rnn(x, offsets=offsets)
        of_events = [of_global, session_mean_so_far(x, position)]
        if not self.config["n_themes"]:
            return EncodedHistories(of_events, global_state[0], None)
        of_theme, theme_states = self.run_themes(x, offsets, position)
        return EncodedHistories([*of_events, of_theme], global_state[0], theme_states)

    def run_themes(self, x: Tensor, offsets: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """
        Route events and run the theme experts: what the mixture adds to a single network.

        Parameters
        ----------
        x : (events, H) Tensor
        offsets : (B + 1,) int64 Tensor
        position : (events,) int64 Tensor
            Place of each event in its session, from 0.

        Returns
        -------
        of_events : (events, H) Tensor
            States of each event's themes, by their weights.
        theme_states : (n_themes, B, H) Tensor
            After the last event of each theme.
        """
        logits = theme_logits(x, self.gate.weight)
        if self.training:
            information = theme_mutual_information(logits, position)
            self._auxiliary = -self.config["theme_loss"] * information
        weights, themes = self.route(session_mean_so_far(logits, position))
        n_themes = self.config["n_themes"]
        rows, dispatch = dispatch_by_expert(x, offsets, themes, n_themes)
        of_theme, states = self.theme_rnn(rows, offsets=dispatch.offsets)
        of_events = combine_by_expert(of_theme, dispatch, weights)
        return of_events, states.view(n_themes, len(offsets) - 1, states.shape[2])

    def route(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return (n, k) weights and themes for (n, n_themes) logits."""
        # softmax over all themes: over the chosen ones alone the gate had no gradient at k=1
        weights, themes = expert_gate(logits, self.config["k"], renormalize=False)
        return weights, themes

    def themes(
        self, items: Tensor, offsets: Tensor, times: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """
        Return the themes that each event goes to.

        Parameters
        ----------
        items, offsets, times
            As in :meth:`ThemeMixture.forward`.

        Returns
        -------
        weights : (events, k) Tensor
        themes : (events, k) int64 Tensor
            Greatest weight first.

        Raises
        ------
        IndexError
            If an item is out of range.
        """
        check_in_catalogue("ThemeMixture.themes", self.config["n_items"], items=items)
        position = self._session_position(offsets, times, items.shape[0])
        logits = theme_logits(self.embedding(items), self.gate.weight)
        return self.route(session_mean_so_far(logits, position))

    def auxiliary_loss(self) -> Tensor | None:
        """
        Return what the last call in training adds to the loss, once; else None.

        It is ``-theme_loss`` times the mutual information of the themes of neighbours and, for
        click-through, ``next_item_loss`` times the cross-entropy of the next items in the
        histories.
        """
        auxiliary, self._auxiliary = self._auxiliary, None
        return auxiliary

    def _session_position(self, offsets: Tensor, times: Tensor | None, n_events: int) -> Tensor:
        return session_position(
            offsets, times, self.config["session_gap"], self.config["session_window"], n_events
        )
