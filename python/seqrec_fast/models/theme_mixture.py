"""ThemeMixture: one recurrent state per latent theme of a user, beside a global one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast.nn import GRU
from seqrec_fast.nn.functional import (
    combine_by_expert,
    dispatch_by_expert,
    expert_gate,
    linear_cross_entropy,
)

from ._theme_parts import (
    Output,
    check_config,
    events_with_next,
    last_rows,
    session_mean_so_far,
    session_position,
    theme_logits,
    theme_mutual_information,
)

if TYPE_CHECKING:
    import os

    from seqrec_fast.data import ItemVocabulary


class _Experts(NamedTuple):
    """What the experts say of all events, and of the histories after the last one."""

    of_events: list[Tensor]  # global, short-term and, where there are themes, theme: (N, H) each
    global_state: Tensor  # (B, H)
    theme_states: Tensor | None  # (n_themes, B, H)


class ThemeMixture(torch.nn.Module):
    """
    Recommender for long histories in which interests hop between sessions and come back.

    Each event goes to the latent theme of its session, and a recurrent expert follows each theme
    of each user: what the user did under the same theme, sessions ago, is the step before. Next to
    it stand a recurrent network over the whole history and the mean of the session so far. Inspired
    by theme-aware mixtures (arXiv:2604.20858), whose text and code were not at hand: the equations
    are our own.

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
        super().__init__()
        self.config: dict[str, Any] = {
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
        check_config(self.config)
        self._auxiliary: Tensor | None = None
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.embedding = torch.nn.Embedding(n_items, hidden_size)
            self.global_rnn = GRU(hidden_size, hidden_size)
            if n_themes:
                self.gate = torch.nn.Linear(hidden_size, n_themes, bias=False)
                self.theme_rnn = GRU(hidden_size, hidden_size)
            self.fusion = torch.nn.Linear((3 if n_themes else 2) * hidden_size, hidden_size)
            self.output = Output(n_items)
            if task == "click-through":
                self.head = torch.nn.Sequential(
                    torch.nn.Linear(3 * hidden_size, hidden_size),
                    torch.nn.ReLU(),
                    torch.nn.Linear(hidden_size, 1),
                )
            self._reset_tables()

    def _reset_tables(self) -> None:
        """Glorot's uniform for the items; gates wide enough that themes differ from the start."""
        torch.nn.init.xavier_uniform_(self.embedding.weight)
        if self.config["n_themes"]:
            torch.nn.init.normal_(self.gate.weight)

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
        """
        if self.config["task"] != "click-through":
            raise RuntimeError(
                "ThemeMixture.forward: task is 'next-item'; expected 'click-through' (next items "
                "are scored by run and scores)"
            )
        experts = self._run_experts(functional.embedding(items, self.input_table), offsets, times)
        if self.training:
            self._add_next_item_loss(experts, items, offsets)
        asked = functional.embedding(target, self.item_table)
        told = [experts.global_state, last_rows(experts.of_events[1], offsets)]
        if experts.theme_states is not None:
            weights, themes = self._route(theme_logits(asked, self.gate.weight))
            rows = torch.arange(len(target))[:, None]
            told.append((weights[:, :, None] * experts.theme_states[themes, rows]).sum(1))
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
        return self._fused(self._run_experts(inputs, offsets, times)), None

    def scores(self, hidden: Tensor) -> Tensor:
        """Score all items as the next one: (events, H) to (events, n_items)."""
        return functional.linear(hidden, self.item_table, self.output.bias)

    def themes(
        self, items: Tensor, offsets: Tensor, times: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """
        Return the themes that each event goes to.

        Parameters
        ----------
        items, offsets, times
            As in :meth:`forward`.

        Returns
        -------
        weights : (events, k) Tensor
        themes : (events, k) int64 Tensor
            Greatest weight first.
        """
        position = self._session_position(offsets, times)
        logits = theme_logits(functional.embedding(items, self.input_table), self.gate.weight)
        return self._route(session_mean_so_far(logits, position))

    def auxiliary_loss(self) -> Tensor | None:
        """
        Return what the last call in training adds to the loss, once; else None.

        It is ``-theme_loss`` times the mutual information of the themes of neighbours and, for
        click-through, ``next_item_loss`` times the cross-entropy of the next items in the
        histories.
        """
        auxiliary, self._auxiliary = self._auxiliary, None
        return auxiliary

    def _run_experts(self, inputs: Tensor, offsets: Tensor, times: Tensor | None) -> _Experts:
        position = self._session_position(offsets, times)
        x = functional.dropout(inputs, self.config["dropout_embedding"], self.training)
        of_global, global_state = self.global_rnn(x, offsets=offsets)
        of_events = [of_global, session_mean_so_far(x, position)]
        if not self.config["n_themes"]:
            return _Experts(of_events, global_state[0], None)
        logits = theme_logits(x, self.gate.weight)
        if self.training:
            information = theme_mutual_information(logits, position)
            self._auxiliary = -self.config["theme_loss"] * information
        weights, themes = self._route(session_mean_so_far(logits, position))
        rows, dispatch = dispatch_by_expert(x, offsets, themes, self.config["n_themes"])
        of_theme, theme_states = self.theme_rnn(rows, offsets=dispatch.offsets)
        of_events.append(combine_by_expert(of_theme, dispatch, weights))
        by_theme = theme_states.view(self.config["n_themes"], *global_state.shape[1:])
        return _Experts(of_events, global_state[0], by_theme)

    def _route(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        # softmax over all themes: over the chosen ones alone the gate had no gradient at k=1
        weights, themes = expert_gate(logits, self.config["k"], renormalize=False)
        return weights, themes

    def _fused(self, experts: _Experts) -> Tensor:
        hidden = self.fusion(torch.cat(experts.of_events, 1))
        return functional.dropout(hidden, self.config["dropout_hidden"], self.training)

    def _session_position(self, offsets: Tensor, times: Tensor | None) -> Tensor:
        return session_position(
            offsets, times, self.config["session_gap"], self.config["session_window"]
        )

    def _add_next_item_loss(self, experts: _Experts, items: Tensor, offsets: Tensor) -> None:
        events = events_with_next(offsets)
        if not self.config["next_item_loss"] or not len(events):
            return
        loss = linear_cross_entropy(
            self._fused(experts)[events], self.item_table, items[events + 1], self.output.bias
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
        from seqrec_fast.io import save_model

        if len(vocabulary) != self.n_items:
            raise ValueError(
                f"ThemeMixture.export: vocabulary has {len(vocabulary)} items; expected "
                f"{self.n_items}"
            )
        tensors = {
            name: tensor.detach().to(torch.float32).contiguous().numpy()
            for name, tensor in self.state_dict().items()
        }
        save_model(path, "theme_mixture", self.config, tensors, vocabulary.ids)
