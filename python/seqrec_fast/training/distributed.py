"""Training by several processes: each has a share of every mini-batch, all have the same model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .batches import Batch
from .rows import sparse_rows, sum_rows, summed_rows

Result = TypeVar("Result")

#: How long a process waits for an answer of the others, validation on process 0 included.
TIMEOUT = timedelta(minutes=30)


@contextmanager
def launched() -> Iterator[bool]:
    """
    Join the processes that ``torchrun`` started, for as long as the context lasts.

    Yields
    ------
    bool
        Whether this is process 0, which alone prints and writes files; True without
        ``torchrun``.

    Raises
    ------
    ConnectionError
        If the others cannot be reached.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield True
        return
    with _answered("torchrun"):
        dist.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Share:
    """
    What one process computes of a mini-batch.

    Attributes
    ----------
    batch : Batch
        Its sequences; there may be none.
    events : slice
        Where their events lie in the whole mini-batch.
    weight : float
        Share of the events, 0 to 1.
    """

    batch: Batch
    events: slice
    weight: float


class Processes:
    """
    The processes that train a model together, one or more; for one nothing is ever sent.

    Sums over processes have one order, so the model stays the same everywhere, to the last bit.
    The processes are those of the default group of :mod:`torch.distributed`, if there is one; their
    messages go through groups of its own: by gloo, tensors of a model on GPUs by nccl.

    Parameters
    ----------
    model : Module
        Gets the parameters of process 0.
    identity : dict
        What must be equal in all processes.
    caller : str
        The public function that messages begin with.

    Raises
    ------
    ValueError
        If `identity` differs between processes.
    ConnectionError
        If a process ended or does not answer.
    """

    def __init__(
        self, model: torch.nn.Module, identity: dict[str, Any], caller: str = "Trainer.fit"
    ) -> None:
        self._caller = caller
        together = dist.is_available() and dist.is_initialized()
        self.size = dist.get_world_size() if together else 1
        self.rank = dist.get_rank() if together else 0
        self._group: Any = None  # of tensors
        self._objects: Any = None  # of objects, which are in the memory of the host
        if self.size == 1:
            return
        parameters = [p.data for p in model.parameters()]
        with _answered(self._caller):
            self._objects = self._group = dist.new_group(backend="gloo", timeout=TIMEOUT)
            if parameters[0].is_cuda:
                self._group = dist.new_group(backend="nccl", timeout=TIMEOUT)
        try:
            self._check_equal(identity)
            with _answered(self._caller):
                for tensor in parameters:
                    dist.broadcast(tensor, 0, self._group)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave; processes that still wait for this one get a ConnectionError."""
        for group in {self._group, self._objects} - {None}:
            dist.destroy_process_group(group)
        self._group = self._objects = None

    def share(self, batch: Batch, batch_size: int) -> Share:
        """Return this process's sequences: neighbours, and lanes that are always the same."""
        last = len(batch.offsets) - 1
        begin, end = (min(batch_size * r // self.size, last) for r in (self.rank, self.rank + 1))
        offsets = batch.offsets[begin : end + 1]
        events = slice(int(offsets[0]), int(offsets[-1]))
        reset = None if batch.reset is None else batch.reset[events]
        times = None if batch.times is None else batch.times[events]
        own = Batch(batch.items[events], batch.targets[events], offsets - offsets[0], reset, times)
        return Share(own, events, len(own.items) / len(batch.items))

    def sum_gradients(self, parameters: Iterable[Tensor], loss: Tensor) -> Tensor:
        """
        Sum the gradients over all processes.

        Parameters
        ----------
        parameters : iterable of Tensor
            Their ``grad`` is replaced by the sum. Which of them are sparse must be the same in
            all processes.
        loss : () Tensor

        Returns
        -------
        () Tensor
            The sum of the losses.
        """
        if self.size == 1:
            return loss.detach()
        updated = [p for p in parameters if p.grad is not None]
        with _answered(self._caller):
            loss = self._sum_dense([p for p in updated if not _grad(p).is_sparse], loss)
            self._sum_rows([p for p in updated if _grad(p).is_sparse])
        return loss

    def on_first(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """
        Return in all processes what `function` returns in process 0; the others do not call it.

        Raises
        ------
        ConnectionError
            In the others, if `function` raised an error. Process 0 raises that error.
        """
        if self.size == 1:
            return function(*arguments)
        answer: list[Any] = [None, None]
        failure = None
        if self.rank == 0:
            try:
                answer[0] = function(*arguments)
            except Exception as error:
                failure = error
                answer[1] = f"{type(error).__name__}: {error}"
        with _answered(self._caller):
            dist.broadcast_object_list(answer, 0, self._objects)
        if failure is not None:
            raise failure
        if answer[1] is not None:
            raise ConnectionError(f"{self._caller}: process 0 failed: {answer[1]}")
        result: Result = answer[0]
        return result

    def _check_equal(self, identity: dict[str, Any]) -> None:
        everywhere: list[Any] = [None] * self.size
        with _answered(self._caller):
            dist.all_gather_object(everywhere, identity, self._objects)
        for rank, theirs in enumerate(everywhere):
            for name in identity:
                if theirs[name] != everywhere[0][name]:
                    raise ValueError(
                        f"{self._caller}: {name} of process {rank} differs from that of process 0; "
                        "expected the same in all processes"
                    )

    def _sum_dense(self, parameters: list[Tensor], loss: Tensor) -> Tensor:
        """Sum in one message; return the sum of the losses."""
        parts = [_grad(p).reshape(-1) for p in parameters] + [loss.detach().reshape(1)]
        bucket = torch.cat(parts)
        dist.all_reduce(bucket, group=self._group)
        *sums, total = torch.split(bucket, [len(part) for part in parts])
        for parameter, values in zip(parameters, sums, strict=True):
            parameter.grad = values.view_as(parameter)
        return total[0]

    def _sum_rows(self, tables: list[Tensor]) -> None:
        """Sum sparse gradients: the rows of all processes, added in the order of processes."""
        if not tables:
            return
        gradients = [summed_rows(_grad(table)) for table in tables]
        counts = torch.tensor([len(rows) for rows, _ in gradients], device=tables[0].device)
        every_count = torch.stack(self._gather(counts, len(counts))).tolist()
        ids = self._gather_parts([rows for rows, _ in gradients], every_count)
        widths = [table[0].numel() for table in tables]
        sizes = [[n * w for n, w in zip(row, widths, strict=True)] for row in every_count]
        values = self._gather_parts([v.reshape(-1) for _, v in gradients], sizes)
        for number, table in enumerate(tables):
            added = torch.cat([part[number] for part in values]).view(-1, *table.shape[1:])
            rows = torch.cat([part[number] for part in ids])
            table.grad = sparse_rows(*sum_rows(rows, added), table.shape)

    def _gather_parts(self, parts: list[Tensor], sizes: list[list[int]]) -> list[list[Tensor]]:
        """Return the parts of all processes, whose lengths are known: ``result[process][part]``."""
        longest = max(sum(row) for row in sizes)
        gathered = self._gather(torch.cat(parts), longest)
        return [
            list(torch.split(flat[: sum(row)], row))
            for flat, row in zip(gathered, sizes, strict=True)
        ]

    def _gather(self, flat: Tensor, length: int) -> list[Tensor]:
        """Return the tensors of all processes, filled up to one length."""
        flat = torch.nn.functional.pad(flat, (0, length - len(flat)))
        everywhere = [torch.empty_like(flat) for _ in range(self.size)]
        dist.all_gather(everywhere, flat, self._group)
        return everywhere


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


@contextmanager
def _answered(caller: str) -> Iterator[None]:
    """Turn the failure of a message into an error that says what it means."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            f"{caller}: another process failed, ended, or did not answer within "
            f"{TIMEOUT.total_seconds():g} s ({error})"
        ) from error
