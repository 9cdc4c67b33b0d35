"""Splits of sessions into training, validation and test."""

from __future__ import annotations

import numpy as np

from seqrec_fast.data.sessions import Sessions

_DAY = 86_400.0


def split_leave_one_out(sessions: Sessions) -> tuple[Sessions, Sessions, Sessions]:
    """Hold out the last event of each session for test and the one before for validation.

    In ``valid`` and ``test`` the last event of a session is the target and all events before
    it are the history (:meth:`Sessions.split_last` takes them apart), so the history of a test
    target includes the validation target. For a session ``a b c d``:

    ======  ===========  ======
    part    history      target
    ======  ===========  ======
    train   a b          every event after the first
    valid   a b          c
    test    a b c        d
    ======  ===========  ======

    Sessions of fewer than three events are too short for this: they stay whole in ``train``,
    and have no part in ``valid`` and ``test``, which hold the other sessions in their order.

    Returns
    -------
    train, valid, test : Sessions
    """
    long_enough = sessions.lengths >= 3
    held_out = np.where(long_enough, 2, 0)
    train = sessions.trimmed(last=held_out)
    test = sessions.select(long_enough)
    return train, test.trimmed(last=1), test


def split_by_time(
    sessions: Sessions,
    *,
    cut: float | None = None,
    fraction: float | None = None,
    days: float | None = None,
) -> tuple[Sessions, Sessions]:
    """Put the sessions that start at or after a moment into test, all others into training.

    Exactly one of the three ways to name the moment is given. A session that starts before
    the moment and goes on after it is a training session, whole. Test sessions may hold items
    that no training session has.

    Parameters
    ----------
    sessions : Sessions
        With times, and without empty sessions.
    cut : float, optional
        The moment, in seconds.
    fraction : float, optional
        Between 0 and 1: the moment at which this share of the sessions, the latest ones, is
        still to start. Sessions that start at the same time are never torn apart, so that test
        may get a few more.
    days : float, optional
        Positive: the moment is this many days (of 86,400 seconds) before the last event.

    Returns
    -------
    train, test : Sessions
        Both in the order of ``sessions``.

    Raises
    ------
    ValueError
        If there are no times, if not exactly one of ``cut``, ``fraction`` and ``days`` is
        given or it is out of range, or if one of the two parts would be empty.
    """
    given = {"cut": cut, "fraction": fraction, "days": days}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(
            "split_by_time: expected exactly one of cut, fraction and days; got "
            f"{', '.join(named) or 'none'}"
        )
    if sessions.times is None:
        raise ValueError("split_by_time: sessions have no times")
    if (empty := np.flatnonzero(sessions.lengths == 0)).size:
        raise ValueError(f"split_by_time: session {empty[0]} is empty")
    starts = sessions.times[sessions.offsets[:-1]]
    moment = cut if cut is not None else 0.0
    if fraction is not None:
        if not 0 < fraction < 1:
            raise ValueError(f"split_by_time: fraction is {fraction}; expected between 0 and 1")
        n_test = max(1, round(len(starts) * fraction))
        moment = np.sort(starts)[-n_test] if len(starts) else 0.0
    elif days is not None:
        if not days > 0:
            raise ValueError(f"split_by_time: days is {days}; expected more than 0")
        moment = np.max(sessions.times, initial=-np.inf) - days * _DAY
    in_test = starts >= moment
    if in_test.all() or not in_test.any():
        raise ValueError(
            f"split_by_time: {named[0]}={given[named[0]]} puts {np.count_nonzero(in_test)} of "
            f"{len(sessions)} sessions into test; expected both parts to have some"
        )
    return sessions.select(~in_test), sessions.select(in_test)
