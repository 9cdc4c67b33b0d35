"""Interaction logs, ragged sessions, splits, and a simulator with a known ceiling.

Readers of files need pyarrow (``pip install seqrec-fast[train]``); the rest needs NumPy only.
"""

from seqrec_fast.data.alias_table import AliasTable
from seqrec_fast.data.building import FilterReport, build_sessions
from seqrec_fast.data.click_building import click_samples, sampled_clicks
from seqrec_fast.data.clicks import ClickBatch, ClickSamples
from seqrec_fast.data.hopping import HoppingSimulation, simulate_hopping
from seqrec_fast.data.log import InteractionLog, read_log, write_log
from seqrec_fast.data.sessions import Sessions
from seqrec_fast.data.simulator import Simulation, simulate
from seqrec_fast.data.splits import split_by_time, split_leave_one_out
from seqrec_fast.data.stream import RaggedLog, iter_sessions
from seqrec_fast.data.vocabulary import ItemVocabulary

__all__ = [
    "AliasTable",
    "ClickBatch",
    "ClickSamples",
    "FilterReport",
    "HoppingSimulation",
    "InteractionLog",
    "ItemVocabulary",
    "RaggedLog",
    "Sessions",
    "Simulation",
    "build_sessions",
    "click_samples",
    "iter_sessions",
    "read_log",
    "sampled_clicks",
    "simulate",
    "simulate_hopping",
    "split_by_time",
    "split_leave_one_out",
    "write_log",
]
