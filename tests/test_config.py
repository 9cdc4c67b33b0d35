"""Targets, threads and the report for bug reports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import seqrec_fast as sf


def run_with(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import seqrec_fast as sf; {code}"],
        capture_output=True,
        text=True,
        env={"PATH": "", **environment},
        check=False,
    )


def test_force_target_for_a_while():
    before = sf.active_target()
    for name in sf.supported_targets():
        with sf.force_target(name):
            assert sf.active_target() == name
        assert sf.active_target() == before
    with sf.force_target("auto"):
        assert sf.active_target() == sf.supported_targets()[-1]


def test_unsupported_target_raises_and_changes_nothing():
    before = sf.active_target()
    with pytest.raises(ValueError, match="force_target: this build has no target 'avx9'; it has"):
        sf.force_target("avx9")
    assert sf.active_target() == before


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_contexts_of_back_ends_restore_what_was_before(precision):
    best = sf.config.active_backend(precision)
    with sf.force_backend(precision, "amx_emulated"):
        with sf.force_backend(precision, "highway"):
            assert sf.config.active_backend(precision) == "highway"
        assert sf.config.active_backend(precision) == "amx_emulated"
        with pytest.raises(ValueError, match="no back end 'mmx'"):
            sf.force_backend(precision, "mmx")
        with sf.force_backend(precision, "auto"):
            assert sf.config.active_backend(precision) == best
    assert sf.config.active_backend(precision) == best
    code = (
        f"print(sf.config.active_backend({precision!r}));"
        f"c = sf.force_backend({precision!r}, 'highway'); c.__exit__();"
        f"print(sf.config.active_backend({precision!r}))"
    )
    found = run_with(code, **{f"SEQREC_FAST_{precision.upper()}": "amx_emulated"})
    assert found.stdout.split() == ["amx_emulated", "amx_emulated"]


def test_target_from_the_environment():
    name = sf.supported_targets()[0]
    assert run_with("print(sf.active_target())", SEQREC_FAST_TARGET=name).stdout.strip() == name
    failed = run_with("sf.active_target()", SEQREC_FAST_TARGET="mmx")
    assert "SEQREC_FAST_TARGET: this build has no target 'mmx'" in failed.stderr


def test_threads():
    for n in (1, 3):
        sf.set_num_threads(n)
        assert sf.get_num_threads() == n
    for bad in (0, -1, 1025):
        with pytest.raises(ValueError, match=f"set_num_threads: n is {bad}"):
            sf.set_num_threads(bad)


@pytest.mark.parametrize(
    ("ours", "openmp", "expected"),
    [("5", "3", 5), ("", "3", 3), ("", "4,2", 4), ("", "9999", 1024)],
)
def test_threads_from_the_environment(ours, openmp, expected):
    printed = run_with(
        "print(sf.get_num_threads())", SEQREC_FAST_NUM_THREADS=ours, OMP_NUM_THREADS=openmp
    )
    assert printed.stdout.strip() == str(expected)


@pytest.mark.parametrize("openmp", ["", "0", "-2", "many"])
def test_threads_without_a_number_in_the_environment(openmp):
    printed = run_with(
        "print(sf.get_num_threads())", SEQREC_FAST_NUM_THREADS="", OMP_NUM_THREADS=openmp
    )
    affinity = getattr(os, "sched_getaffinity", None)
    assert int(printed.stdout) == (len(affinity(0)) if affinity else os.cpu_count())


def test_show_config(capsys):
    config = sf.show_config(as_dict=True)
    assert config["version"] == sf.__version__
    assert config["active_target"] in config["supported_targets"]
    assert set(config["supported_targets"]) <= set(config["compiled_targets"])
    assert config["cuda"].startswith("not built")
    sf.show_config()
    printed = capsys.readouterr().out
    for key in ("compiler", "threads", "highway", "active_target"):
        assert f"{key}: " in printed
