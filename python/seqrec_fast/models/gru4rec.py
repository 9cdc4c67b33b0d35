"""GRU4Rec: a recurrent network over the items of a session that scores the next item."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast._checks import checked_int
from seqrec_fast._model_format import EMBEDDINGS, GATES, NONLINEARITIES
from seqrec_fast.nn import GRU, LSTM, RNN

from ._arguments import check_in_catalogue, plain_config
from ._export import export_model

if TYPE_CHECKING:
    import os

    from seqrec_fast.data import ItemVocabulary

State = Tensor | tuple[Tensor, Tensor]

_CELLS = {"gru": GRU, "lstm": LSTM, "rnn": RNN}


class GRU4Rec(torch.nn.Module):
    """
    Session recommender of Hidasi et al. (2016, arXiv:1511.06939; 2018, arXiv:1706.03847).

    The score of item i after an event is ``h @ output.weight[i] + output.bias[i]``, where h is
    the hidden state of the top layer. A tied embedding of another width than the hidden state is
    scored with ``projection(h)``, as GRU4Rec of RecBole (arXiv:2011.01731) does.

    Parameters
    ----------
    n_items : int
        Size of the catalogue; items are 0 to ``n_items - 1``.
    cell : {"gru", "lstm", "rnn"}
    embedding : {"separate", "tied", "none"}
        ``"separate"``: one table of item embeddings for the input, one for the scores.
        ``"tied"``: one for both; where ``embedding_dim`` is not ``hidden_size``, a linear layer
        projects the hidden state to that width. ``"none"``: each item has its own row of input
        gates (n_items, G * hidden_size), which stands for an embedding and its product with
        ``weight_ih``.
    embedding_dim : int
        Width of the input embedding; of no effect with ``"none"``.
    hidden_size : int
    num_layers : int
    nonlinearity : {"tanh", "relu"}
        Of the cell ``"rnn"``.
    reset_after : bool
        Of the cell ``"gru"``, see :class:`seqrec_fast.nn.GRU`.
    dropout_embedding : float
        Share of the elements of the input embedding (or input gates) zeroed in training.
    dropout_hidden : float
        Share of the elements of each layer's output zeroed in training.
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
        If a size is no integer.

    Examples
    --------
    >>> import torch
    >>> from seqrec_fast.models import GRU4Rec
    >>> model = GRU4Rec(n_items=50, embedding_dim=16, hidden_size=16)
    >>> hidden, _ = model(torch.tensor([7, 3, 9]), torch.tensor([0, 2, 3]))
    >>> model.scores(hidden).shape
    torch.Size([3, 50])
    """

    #: What the model is trained for.
    task = "next-item"
    #: Times of events are of no effect.
    uses_times = False

    def __init__(
        self,
        n_items: int,
        *,
        cell: str = "gru",
        embedding: str = "tied",
        embedding_dim: int = 100,
        hidden_size: int = 100,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        reset_after: bool = True,
        dropout_embedding: float = 0.2,
        dropout_hidden: float = 0.2,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        config = {
            "cell": cell,
            "n_items": n_items,
            "embedding": embedding,
            "embedding_dim": embedding_dim,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "nonlinearity": nonlinearity,
            "reset_after": reset_after,
            "dropout_embedding": dropout_embedding,
            "dropout_hidden": dropout_hidden,
        }
        self.config: dict[str, Any] = plain_config(config)
        _check(self.config)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self._build()
            self.reset_parameters()

    def _build(self) -> None:
        config = self.config
        cell, hidden_size = config["cell"], config["hidden_size"]
        input_size = config["embedding_dim"]
        if config["embedding"] == "none":
            input_size = None
            self.input_gates = torch.nn.Embedding(self.n_items, GATES[cell] * hidden_size)
        else:
            self.embedding = torch.nn.Embedding(self.n_items, input_size)
        dropout = config["dropout_hidden"] if config["num_layers"] > 1 else 0.0
        options: dict[str, Any] = {"num_layers": config["num_layers"], "dropout": dropout}
        if cell == "gru":
            options["reset_after"] = config["reset_after"]
        elif cell == "rnn":
            options["nonlinearity"] = config["nonlinearity"]
        self.rnn: torch.nn.RNNBase = _CELLS[cell](input_size, hidden_size, **options)
        tied = config["embedding"] == "tied"
        self.output = _Output(self.n_items, None if tied else hidden_size)
        self.projection: torch.nn.Linear | None = None
        if tied and input_size != hidden_size:
            self.projection = torch.nn.Linear(hidden_size, input_size)

    def reset_parameters(self) -> None:
        """Draw all parameters anew: Glorot's uniform for tables, PyTorch's for the layers."""
        self.rnn.reset_parameters()
        if self.projection is not None:
            self.projection.reset_parameters()
        for table in dict.fromkeys((self.input_table, self.item_table)):
            bound = math.sqrt(6.0 / sum(table.shape))
            torch.nn.init.uniform_(table, -bound, bound)
        torch.nn.init.zeros_(self.output.bias)

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return int(self.config["n_items"])

    @property
    def input_table(self) -> Tensor:
        """(n_items, E) embeddings of the input, or (n_items, G * H) input gates."""
        return (self.input_gates if self.config["embedding"] == "none" else self.embedding).weight

    @property
    def item_table(self) -> Tensor:
        """(n_items, O) embeddings that the scores are made with."""
        weight = self.output.weight
        return self.embedding.weight if weight is None else weight

    def forward(
        self,
        items: Tensor,
        offsets: Tensor,
        state: State | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """
        Run over the events of sessions.

        Parameters
        ----------
        items : (events,) int64 Tensor
            Session after session, oldest event first.
        offsets : (B + 1,) int64 Tensor
            Session b is ``items[offsets[b]:offsets[b + 1]]``.
        state : (num_layers, B, H) Tensor, or a pair of them for an LSTM, optional
            State before the first event, zeros if absent.
        reset : (events,) bool Tensor, optional
            True: the state is zeroed before this event.

        Returns
        -------
        hidden : (events, O) Tensor
            After each event, with dropout in training; O is H, or E where the hidden state is
            projected.
        state : (num_layers, B, H) Tensor, or a pair of them for an LSTM
            After the last event of each session.

        Raises
        ------
        IndexError
            If an item is out of range.
        """
        check_in_catalogue("GRU4Rec.forward", self.n_items, items=items)
        return self.run(functional.embedding(items, self.input_table), offsets, state, reset)

    def run(
        self,
        inputs: Tensor,
        offsets: Tensor,
        state: State | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """
        Run over the events of sessions, given their rows of ``input_table``.

        Parameters
        ----------
        inputs : (events, E) Tensor
        offsets, state, reset
            As in :meth:`forward`, as is what is returned.
        """
        x = functional.dropout(inputs, self.config["dropout_embedding"], self.training)
        hidden, state = self.rnn(x, state, offsets=offsets, reset=reset)
        hidden = functional.dropout(hidden, self.config["dropout_hidden"], self.training)
        return self.project(hidden), state

    def project(self, hidden: Tensor) -> Tensor:
        """Return (n, O) vectors that items are scored with, of (n, H) states of the top layer."""
        return hidden if self.projection is None else self.projection(hidden)

    def step(
        self, items: Tensor, state: State | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """
        Run over one event of each of B sessions.

        Parameters
        ----------
        items : (B,) int64 Tensor
        state, reset
            As in :meth:`forward`; `reset` is (B,).

        Returns
        -------
        hidden : (B, O) Tensor
        state : (num_layers, B, H) Tensor, or a pair of them for an LSTM
        """
        offsets = torch.arange(items.shape[0] + 1, device=items.device)
        return self.forward(items, offsets, state, reset)

    def scores(self, hidden: Tensor) -> Tensor:
        """
        Score all items as the next one.

        Parameters
        ----------
        hidden : (events, O) Tensor

        Returns
        -------
        (events, n_items) Tensor
        """
        return functional.linear(hidden, self.item_table, self.output.bias)

    def auxiliary_loss(self) -> None:
        """Return None: nothing is added to the loss of the next items."""

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
        export_model(self, "gru4rec", path, vocabulary)


class _Output(torch.nn.Module):
    """Parameters of the scores; the weight is absent when the embedding stands for it."""

    weight: Tensor | None

    def __init__(self, n_items: int, hidden_size: int | None) -> None:
        super().__init__()
        weight = None if hidden_size is None else torch.empty(n_items, hidden_size)
        self.register_parameter("weight", None if weight is None else torch.nn.Parameter(weight))
        self.bias = torch.nn.Parameter(torch.empty(n_items))


def _check(config: dict[str, Any]) -> None:
    choices = {"cell": _CELLS, "embedding": EMBEDDINGS, "nonlinearity": NONLINEARITIES}
    for name, known in choices.items():
        if config[name] not in known:
            raise ValueError(
                f"GRU4Rec: {name} is {config[name]!r}; expected one of {', '.join(known)}"
            )
    for name in ("n_items", "embedding_dim", "hidden_size", "num_layers"):
        config[name] = checked_int("GRU4Rec", name, config[name], 1)
    for name in ("dropout_embedding", "dropout_hidden"):
        if not 0 <= config[name] < 1:
            raise ValueError(f"GRU4Rec: {name} is {config[name]}; expected 0 <= {name} < 1")
