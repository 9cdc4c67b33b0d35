from typing import Any, Generic, TypeVar

from numpy import float32, float64, int32, int64, uint8, uint64
from numpy.typing import NDArray
from torch import Tensor

_T = TypeVar("_T", float32, float64)
# Contiguous tensors do wherever arrays do; told where they are used.
_Int64s = NDArray[int64] | Tensor

__version__: str
CELLS: tuple[str, ...]
FLOAT64_UNITS: int

def build_info() -> dict[str, str]: ...
def compiled_targets() -> list[str]: ...
def supported_targets() -> list[str]: ...
def active_target() -> str: ...
def force_target(name: str) -> None: ...
def supported_backends(precision: str) -> list[str]: ...
def active_backend(precision: str) -> str: ...
def force_backend(precision: str, name: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def gate_count(cell: str) -> int: ...
def saved_count(cell: str) -> int: ...

class SequenceLayout:
    @staticmethod
    def padded(seq_len: int, batch: int, batch_first: bool) -> SequenceLayout: ...
    @staticmethod
    def ragged(function: str, offsets: _Int64s, n_events: int) -> SequenceLayout: ...
    @staticmethod
    def packed(function: str, batch_sizes: _Int64s, n_events: int) -> SequenceLayout: ...
    @property
    def batch(self) -> int: ...
    @property
    def n_events(self) -> int: ...

class RnnNoise:
    def __init__(
        self,
        recurrent_dropout: float,
        zoneout: float,
        seed: int | None,
        stream: int = 0,
        sessions: _Int64s | None = None,
    ) -> None: ...

class _PackedRnn(Generic[_T]):
    def __init__(
        self,
        cell: str,
        weight_ih: NDArray[_T] | None,
        weight_hh: NDArray[_T],
        bias_ih: NDArray[_T] | None,
        bias_hh: NDArray[_T] | None,
        weight_hr: NDArray[_T] | None,
        float32_states: bool = False,
        precision: str = "full",
    ) -> None: ...
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def state_size(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def forward(
        self,
        layout: SequenceLayout,
        x: NDArray[_T],
        h_0: NDArray[_T] | None,
        c_0: NDArray[_T] | None,
        reset: NDArray[uint8] | None,
        reverse: bool,
        y: NDArray[_T] | None,
        h_n: NDArray[_T],
        c_n: NDArray[_T] | None,
        saved: NDArray[_T] | None,
        ids: NDArray[int64] | None = None,
        gate_table: NDArray[_T] | None = None,
        noise: RnnNoise | None = None,
        attention: NDArray[_T] | None = None,
    ) -> None: ...
    @property
    def has_input_weights(self) -> bool: ...
    @property
    def gate_table_width(self) -> int: ...
    def gate_table(self, x: NDArray[_T], out: NDArray[_T]) -> None: ...

class PackedRnnF32(_PackedRnn[float32]): ...
class PackedRnnF64(_PackedRnn[float64]): ...

def rnn_backward_f32(
    *args: Any,
    precision: str = ...,
    noise: RnnNoise | None = ...,
    attention: NDArray[float32] | None = ...,
    dattention: NDArray[float32] | None = ...,
) -> None: ...
def rnn_backward_f64(
    *args: Any,
    precision: str = ...,
    noise: RnnNoise | None = ...,
    attention: NDArray[float64] | None = ...,
    dattention: NDArray[float64] | None = ...,
) -> None: ...
def rnn_experts_forward_f32(
    cell: str,
    count: int,
    reverse: bool,
    precision: str,
    noise: RnnNoise | None,
    float32_states: bool,
    **arrays: Any,
) -> None: ...
def rnn_experts_forward_f64(
    cell: str,
    count: int,
    reverse: bool,
    precision: str,
    noise: RnnNoise | None,
    float32_states: bool,
    **arrays: Any,
) -> None: ...
def rnn_experts_backward_f32(
    cell: str, count: int, reverse: bool, precision: str, noise: RnnNoise | None, **arrays: Any
) -> None: ...
def rnn_experts_backward_f64(
    cell: str, count: int, reverse: bool, precision: str, noise: RnnNoise | None, **arrays: Any
) -> None: ...

class _RnnStack(Generic[_T]):
    def __init__(
        self,
        layers: list[Any],
        directions: int,
        embedding: NDArray[_T] | None,
        gate_tables: list[NDArray[_T]],
    ) -> None: ...
    def run(
        self,
        function: str,
        x: Any,
        h_0: Any,
        c_0: Any,
        offsets: Any,
        last: bool,
        attention: NDArray[_T] | None = None,
    ) -> tuple[NDArray[_T], NDArray[_T], NDArray[_T] | None] | None: ...

class RnnStackF32(_RnnStack[float32]): ...
class RnnStackF64(_RnnStack[float64]): ...

class _SessionStore(Generic[_T]):
    def __init__(
        self,
        stack: _RnnStack[_T],
        capacity: int,
        item_ids: list[Any],
    ) -> None: ...
    def push(self, keys: list[Any], items: list[Any]) -> bool: ...
    def push_positions(self, keys: list[Any], positions: NDArray[int64]) -> None: ...
    def recommend(
        self, keys: list[Any], items: PackedItems, k: int, exclude_seen: bool
    ) -> tuple[NDArray[float32], NDArray[int64]]: ...
    def step(
        self,
        keys: list[Any],
        event_items: list[Any],
        items: PackedItems,
        k: int,
        exclude_seen: bool,
    ) -> tuple[NDArray[float32], NDArray[int64]] | None: ...
    def forget(self, keys: list[Any]) -> None: ...
    def contains(self, key: int | str) -> bool: ...
    def contents(
        self,
    ) -> tuple[list[Any], NDArray[float32], NDArray[int64], NDArray[int64]]: ...
    def replace(
        self,
        keys: list[Any],
        states: NDArray[float32],
        offsets: NDArray[int64],
        items: NDArray[int64],
    ) -> None: ...
    def __len__(self) -> int: ...

class SessionStoreF32(_SessionStore[float32]): ...
class SessionStoreF64(_SessionStore[float64]): ...

def item_peaks(function: str, items: NDArray[float32], peaks: NDArray[float32]) -> None: ...

class PackedItems:
    BLOCK: int
    def __init__(
        self,
        function: str,
        n_items: int,
        dim: int,
        vectors: NDArray[Any],
        bias: NDArray[float32] | None,
        ids: NDArray[int32],
        positions: NDArray[int32],
        high: NDArray[uint8] | None,
        low: NDArray[uint8] | None,
        bounds: NDArray[float64] | None,
        id_offset: int,
        n_ids: int,
    ) -> None: ...
    @property
    def n_items(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def id_offset(self) -> int: ...
    @property
    def n_ids(self) -> int: ...
    def write(
        self,
        function: str,
        positions: NDArray[int64],
        sources: NDArray[int64],
        rows: NDArray[float32],
        bias: NDArray[float32] | None,
        n_items: int,
    ) -> None: ...
    def topk(
        self,
        queries: NDArray[float32],
        k: int,
        excluded: NDArray[int64] | None,
        exclude_offsets: NDArray[int64] | None,
        allowed_bits: NDArray[uint64] | None,
        allowed_ids: NDArray[int64] | None,
        allowed_offsets: NDArray[int64] | None,
        scores: NDArray[float32],
        ids: NDArray[int64],
    ) -> None: ...
    def ranks(
        self,
        queries: NDArray[float32],
        targets: NDArray[int64],
        excluded: NDArray[int64] | None,
        exclude_offsets: NDArray[int64] | None,
        greater: NDArray[int64],
        equal: NDArray[int64],
        before: NDArray[int64],
    ) -> None: ...
    def statistics(self) -> tuple[int, int, int, int]: ...

# The expert gate, see cpp/ops/gate.h; `_f64` the same for float64.

def expert_gate_f32(
    logits: NDArray[float32],
    k: int,
    score: str,
    order: str,
    renormalize: bool,
    bias: NDArray[float32] | None,
    mask: NDArray[uint8] | None,
    scale: float,
    weights: NDArray[float32],
    ids: NDArray[int64],
) -> None: ...
def expert_gate_f64(*args: Any) -> None: ...
def expert_gate_grad_f32(
    logits: NDArray[float32],
    k: int,
    score: str,
    order: str,
    renormalize: bool,
    bias: NDArray[float32] | None,
    mask: NDArray[uint8] | None,
    scale: float,
    ids: NDArray[int64],
    weights: NDArray[float32],
    dweights: NDArray[float32],
    dlogits: NDArray[float32],
) -> None: ...
def expert_gate_grad_f64(*args: Any) -> None: ...
def gate_noise(noise: str, seed: int, step: int, values: NDArray[float32]) -> None: ...

# Losses over an item table and updates of its rows, see cpp/ops; `_f64` the same for float64.

_Rule = tuple[
    str, float, float, float, float, float, float, int,
    NDArray[Any] | None, NDArray[Any] | None,
]  # fmt: skip

class AliasTable:
    def __init__(self, probabilities: NDArray[float64]) -> None: ...
    def draw(self, n: int, seed: int, counter: int, ordered: bool) -> NDArray[int64]: ...
    def slots(self) -> tuple[NDArray[uint64], NDArray[int64]]: ...
    def __len__(self) -> int: ...

def dispatch_by_expert(
    offsets: _Int64s, expert_ids: _Int64s, num_experts: int, capacity: int
) -> tuple[NDArray[int64], NDArray[int64], NDArray[int64], NDArray[int64]]: ...
def session_segments_i64(
    rule: str,
    offsets: NDArray[int64],
    times: NDArray[int64] | None,
    window: int,
    gap: float,
    count: int,
) -> tuple[NDArray[int64], NDArray[int64]]: ...
def session_segments_f64(
    rule: str,
    offsets: NDArray[int64],
    times: NDArray[float64] | None,
    window: int,
    gap: float,
    count: int,
) -> tuple[NDArray[int64], NDArray[int64]]: ...
def expand_segments_i64(
    per_segment: NDArray[int64],
    segment_offsets: NDArray[int64],
    mean: bool,
    out: NDArray[int64],
) -> None: ...
def expand_segments_f32(
    per_segment: NDArray[float32],
    segment_offsets: NDArray[int64],
    mean: bool,
    out: NDArray[float32],
) -> None: ...
def expand_segments_f64(
    per_segment: NDArray[float64],
    segment_offsets: NDArray[int64],
    mean: bool,
    out: NDArray[float64],
) -> None: ...
def segment_sum_f32(
    values: NDArray[float32], segment_offsets: NDArray[int64], mean: bool, out: NDArray[float32]
) -> None: ...
def dispatch_rows_f32(
    values: NDArray[float32],
    position: NDArray[int64],
    weights: NDArray[float32] | None,
    other: NDArray[float32] | None,
    rows: NDArray[float32],
    dots: NDArray[float32] | None,
) -> None: ...
def combine_rows_f32(
    rows: NDArray[float32],
    position: NDArray[int64],
    weights: NDArray[float32] | None,
    other: NDArray[float32] | None,
    sums: NDArray[float32],
    dots: NDArray[float32] | None,
) -> None: ...
def route_segments_f32(
    values: NDArray[float32],
    segment_offsets: NDArray[int64],
    prototypes: NDArray[float32],
    k: int,
    score: str,
    order: str,
    renormalize: bool,
    bias: NDArray[float32] | None,
    mask: NDArray[uint8] | None,
    scale: float,
    means: NDArray[float32],
    logits: NDArray[float32],
    weights: NDArray[float32],
    ids: NDArray[int64],
) -> None: ...
def route_segments_f64(
    values: NDArray[float64],
    segment_offsets: NDArray[int64],
    prototypes: NDArray[float64],
    k: int,
    score: str,
    order: str,
    renormalize: bool,
    bias: NDArray[float64] | None,
    mask: NDArray[uint8] | None,
    scale: float,
    means: NDArray[float64],
    logits: NDArray[float64],
    weights: NDArray[float64],
    ids: NDArray[int64],
) -> None: ...
def grouped_linear_f32(
    x: NDArray[float32],
    weight: NDArray[float32],
    bias: NDArray[float32] | None,
    group_offsets: NDArray[int64],
    y: NDArray[float32],
) -> None: ...
def grouped_linear_grad_f32(
    x: NDArray[float32],
    weight: NDArray[float32],
    group_offsets: NDArray[int64],
    dy: NDArray[float32],
    dx: NDArray[float32] | None,
    dweight: NDArray[float32] | None,
    dbias: NDArray[float32] | None,
) -> None: ...
def multi_gate_f32(
    experts: int,
    gates: int,
    expert_outputs: NDArray[float32],
    gate_logits: NDArray[float32],
    mixture: NDArray[float32],
) -> None: ...
def multi_gate_grad_f32(
    experts: int,
    gates: int,
    expert_outputs: NDArray[float32],
    gate_logits: NDArray[float32],
    dmixture: NDArray[float32],
    dexpert: NDArray[float32],
    dlogits: NDArray[float32],
) -> None: ...
def segment_sum_f64(
    values: NDArray[float64], segment_offsets: NDArray[int64], mean: bool, out: NDArray[float64]
) -> None: ...
def dispatch_rows_f64(
    values: NDArray[float64],
    position: NDArray[int64],
    weights: NDArray[float64] | None,
    other: NDArray[float64] | None,
    rows: NDArray[float64],
    dots: NDArray[float64] | None,
) -> None: ...
def combine_rows_f64(
    rows: NDArray[float64],
    position: NDArray[int64],
    weights: NDArray[float64] | None,
    other: NDArray[float64] | None,
    sums: NDArray[float64],
    dots: NDArray[float64] | None,
) -> None: ...
def grouped_linear_f64(
    x: NDArray[float64],
    weight: NDArray[float64],
    bias: NDArray[float64] | None,
    group_offsets: NDArray[int64],
    y: NDArray[float64],
) -> None: ...
def grouped_linear_grad_f64(
    x: NDArray[float64],
    weight: NDArray[float64],
    group_offsets: NDArray[int64],
    dy: NDArray[float64],
    dx: NDArray[float64] | None,
    dweight: NDArray[float64] | None,
    dbias: NDArray[float64] | None,
) -> None: ...
def multi_gate_f64(
    experts: int,
    gates: int,
    expert_outputs: NDArray[float64],
    gate_logits: NDArray[float64],
    mixture: NDArray[float64],
) -> None: ...
def multi_gate_grad_f64(
    experts: int,
    gates: int,
    expert_outputs: NDArray[float64],
    gate_logits: NDArray[float64],
    dmixture: NDArray[float64],
    dexpert: NDArray[float64],
    dlogits: NDArray[float64],
) -> None: ...
def order_rows(
    ids: _Int64s,
) -> tuple[NDArray[int64], NDArray[int64], NDArray[int64]]: ...
def cross_entropy_f32(
    hidden: NDArray[float32],
    weight: NDArray[float32],
    bias: NDArray[float32] | None,
    target: NDArray[int64],
    scale: float,
    softcap: float,
    label_smoothing: float,
    precision: str,
    loss: NDArray[float32],
    log_sum: NDArray[float32],
) -> None: ...
def cross_entropy_grad_f32(
    hidden: NDArray[float32],
    weight: NDArray[float32],
    bias: NDArray[float32] | None,
    target: NDArray[int64],
    scale: float,
    softcap: float,
    label_smoothing: float,
    precision: str,
    log_sum: NDArray[float32],
    row_grad: NDArray[float32],
    dhidden: NDArray[float32] | None,
    dweight: NDArray[float32] | None,
    dbias: NDArray[float32] | None,
    rule: _Rule | None,
) -> None: ...
def sampled_loss_f32(
    function: str,
    kind: str,
    collisions: str,
    hidden: NDArray[float32],
    weight: NDArray[float32],
    bias: NDArray[float32] | None,
    target: NDArray[int64],
    negatives: NDArray[int64],
    log_q: NDArray[float32] | None,
    target_log_q: NDArray[float32] | None,
    scale: float,
    elu: float,
    regularization: float,
    beta: float,
    precision: str,
    loss: NDArray[float32],
    row_grad: NDArray[float32] | None,
    dhidden: NDArray[float32] | None,
    dtarget_scores: NDArray[float32] | None,
    dnegatives: NDArray[float32] | None,
    dnegative_bias: NDArray[float32] | None,
) -> None: ...
def row_sum_f32(
    order: NDArray[int64],
    begin: NDArray[int64],
    rows: list[NDArray[float32]],
    factors: NDArray[float32] | None,
    sums: NDArray[float32],
    repeats: list[int] = ...,
) -> None: ...
def update_rows_f32(
    rule: _Rule, ids: NDArray[int64], gradients: NDArray[float32], table: NDArray[float32]
) -> None: ...
def update_rows_f64(
    rule: _Rule, ids: NDArray[int64], gradients: NDArray[float64], table: NDArray[float64]
) -> None: ...
def session_step_f32(*args: Any) -> float: ...
def session_step_f64(*args: Any) -> float: ...
