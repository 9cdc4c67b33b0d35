"""Recurrent layers on emulated threads: 16-bit tensors, noise, projections, clusters of a GPU."""

from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
import torch

from cuda_rnn_cases import NOISES, SEED, Call, assert_same
from rnn_cases import ATTENTION_CELLS, CELLS, relative_error

pytestmark = pytest.mark.usefixtures("emulated_kernels")

BATCH = {"packed": 10, "time_first": 9, "batch_first": 4, "tiles": 11, "few": 3}


@pytest.fixture
def device():
    """Return what changes the emulated GPU, for one test."""
    module = importlib.import_module("seqrec_fast._cuda_emulated")
    yield module.set_device
    module.set_device()


@pytest.mark.parametrize("hidden", [70, 129])
@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm", "rnn_tanh"])
def test_clusters_that_the_gpu_has_no_room_for(device, cell, hidden):
    """Neither smaller clusters nor weights from L2 change a bit of float32."""
    call = Call(cell, hidden, torch.float32)
    shared = {70: 48 << 10, 129: 64 << 10}[hidden]
    found = []
    for most, hosted in ((4, 4), (16, 16), (16, 2), (16, 1), (1, 1)):
        device(shared_bytes=shared, most_cluster=most, hosted_cluster=hosted)
        found.append(call.emulated())
    for name, value in found[0].items():
        for other in found[1:]:
            torch.testing.assert_close(other[name], value, rtol=0, atol=0)


def test_states_larger_than_the_shared_memory(device):
    device(shared_bytes=1 << 10)
    with pytest.raises(ValueError, match=r"take \d+ bytes; expected up to 1024, the shared memory"):
        Call("gru", 200, torch.float32).emulated()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("hidden", [5, 33, 130])
@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS])
def test_16_bit_tensors(cell, hidden, dtype):
    """As close to float64 as torch's own 16-bit arithmetic would be: a few roundings."""
    call = Call(cell, hidden, dtype, "tiles" if hidden < 130 else "few")
    found = call.emulated()
    exact = copy.copy(call)
    exact.dtype = torch.float64
    for name in ("x", "h_0", "c_0", "attention"):
        value = getattr(call, name)
        setattr(exact, name, None if value is None else value.double())
    exact.weights = [None if w is None else w.double() for w in call.weights]
    exact.seeds = [None if seed is None else seed.double() for seed in call.seeds]
    truth = exact.on_cpu()
    rounding = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-11
    if cell == "rnn_relu":
        # a sum may round to the other side of 0, and takes its gradients with it
        truth = {name: truth[name] for name in ("y", "h_n")}
    for name, value in truth.items():
        assert found[name].dtype == dtype, name
        assert found[name].shape == value.shape, name
        if value.numel():
            error = relative_error(found[name].double(), value)
            assert error < 6 * rounding, (name, error / rounding)


def test_16_bit_tensors_of_every_layout():
    for layout in ("packed", "time_first", "batch_first", "empty"):
        call = Call("lstm", 20, torch.bfloat16, layout, reverse=True)
        found = call.emulated()
        single = Call("lstm", 20, torch.float32, layout, reverse=True)
        for name, value in single.emulated().items():
            torch.testing.assert_close(found[name].float(), value, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS])
def test_noise_is_that_of_the_cpu(cell, noise):
    assert_same(Call(cell, 5, torch.float64, noise=noise))
    assert_same(Call(cell, 133, torch.float64, "few", reverse=True, noise=noise))
    assert_same(Call(cell, 33, torch.float32, "few", noise=noise))


@pytest.mark.parametrize("layout", ["packed", "time_first", "batch_first", "few"])
def test_noise_of_every_layout(layout):
    sessions = torch.from_numpy(np.random.default_rng(1).permutation(BATCH[layout]))
    for cell in ("gru", "lstm"):
        for reverse in (False, True):
            noise = {**NOISES[2], "sessions": sessions}
            assert_same(Call(cell, 70, torch.float64, layout, reverse, noise=noise))


@pytest.mark.parametrize("cell", CELLS)
def test_noise_of_tensor_cores(cell):
    single = Call(cell, 40, torch.float32, "few", noise=NOISES[2]).emulated()
    for dtype, precision in ((torch.float32, "bfloat16"), (torch.bfloat16, "full")):
        found = Call(cell, 40, dtype, "few", noise=NOISES[2], precision=precision).emulated()
        for name in ("y", "dx", "dh_0", "dweight_hh"):
            assert relative_error(found[name].float(), single[name]) < 0.03, name


@pytest.mark.parametrize("layout", [*BATCH, "empty"])
@pytest.mark.parametrize("reverse", [False, True])
def test_projection(layout, reverse):
    for hidden, projection in ((6, 1), (6, 5), (40, 17)):
        assert_same(Call("lstm", hidden, torch.float64, layout, reverse, projection=projection))


def test_projection_with_all_else():
    assert_same(Call("lstm", 40, torch.float32, projection=20))
    assert_same(Call("lstm", 9, torch.float64, projection=4, noise=NOISES[0]))
    assert_same(Call("lstm", 9, torch.float64, projection=4, input_size=0))
    assert_same(Call("lstm", 9, torch.float64, projection=4, bias=False, states=False, reset=False))
    exact = Call("lstm", 40, torch.float32, projection=20).emulated()
    for dtype, precision in ((torch.float32, "bfloat16"), (torch.bfloat16, "full")):
        found = Call("lstm", 40, dtype, projection=20, precision=precision).emulated()
        for name, value in exact.items():
            if value.numel():
                assert relative_error(found[name].float(), value) < 0.03, name


def test_projection_with_zoneout_is_not_there():
    call = Call("lstm", 6, torch.float32, projection=3, noise={"zoneout": 0.1})
    with pytest.raises(
        NotImplementedError, match=r"proj_size\) together with zoneout: not on CUDA"
    ):
        call.emulated()


def test_errors_of_noise_name_what_came():
    call = Call("gru", 5, torch.float32, noise={"zoneout": 1.0, "seed": SEED})
    with pytest.raises(ValueError, match="rnn_noise: zoneout is 1; expected 0 <= p < 1"):
        call.emulated()
    call = Call("gru", 5, torch.float32, noise={**NOISES[1], "sessions": torch.arange(3)})
    with pytest.raises(ValueError, match=r"sessions has shape \(1, 3\); expected \(1, 11\)"):
        call.emulated()
