"""What the jobs over a database tell of themselves: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from callstats.errors import DatabaseError

Key: TypeAlias = "int | str | float | bytes"
"""A key as the database holds it. Text that is no UTF-8 has its bytes as surrogate escapes."""


FIRST_REJECTS = 100
"""How many refused rows a report names itself; `on_reject` is told of all."""


class PassingError(DatabaseError):
    """A fault that may be over when the batch is tried again: a deadlock, or a lock that was waited for in vain."""


class LostError(PassingError):
    """The connection is gone. If it went in a commit, nobody knows whether that was done."""


class RolledBackError(DatabaseError):
    """A trigger ended the whole transaction, and not only the change of its row."""


class Reject(NamedTuple):
    """A row that was refused and left as it is.

    Attributes
    ----------
    key : int, str, float, bytes or None
        None for rows whose key is NULL.
    reason : str
    """

    key: Key | None
    reason: str


class Change(NamedTuple):
    """How far a reduction moves a metric's peak or mean in one row."""

    key: Key
    metric: str
    before: float
    after: float | None
    """None where the reduced row has nothing of the metric any more."""

    @property
    def share(self) -> float:
        """The change as a share of what was there before."""
        if self.after is None:
            return 1.0
        return abs(self.after - self.before) / abs(self.before) if self.before else float(self.after != 0)


@dataclass(frozen=True, kw_only=True)
class ReduceReport:
    """What `reduce_table` did, or would do.

    Attributes
    ----------
    rows : int
        Rows that were dealt with: ``passed + unchanged + changed + refused``.
    passed : int
        Rows that the database itself passed over, unread: their cell is NULL or too short for the rule to touch, or they are
        younger than every tier.
    unchanged : int
        Rows that were read, checked and left as they are.
    changed : int
        Rows that were reduced and written; in a dry run, rows that would be.
    refused : int
        Rows left as they are since their cell is no stored histogram, or no reduction of it fits, or their key is NULL.
    locked : int
        Rows that other programs have locked so far, at the end to the end. They are not among `rows`, and left as they are.
    total : int or None
        Rows of the table (that `where` holds for) when the job began. Counted only when `progress` is asked for.
    bytes_read : int
        Bytes of all cells that were read.
    bytes_before : int
        Bytes of the changed rows' cells before.
    bytes_after : int
        And after.
    seconds : float
        From the start of the job.
    backend : str
        The kernels that ran: ``"cython"`` or ``"python"``.
    dry_run : bool
        Whether nothing was written on purpose.
    as_of : str or None
        The time that the ages of tiers were measured from; None without tiers.
    peak_change : Change or None
        In a dry run, the largest change of any metric's peak that the reduction would cause, as a share of the value before.
    mean_change : Change or None
        The same of any metric's mean.
    retries : int
        How often a batch had to be tried again after a deadlock, a lock that was waited for in vain or a lost connection.
    stopped : str or None
        Why the job ended before the last row; None when it didn't. What had been done by then is committed.
    rejects : tuple of Reject
        The first 100 refused rows.
    """

    rows: int = 0
    passed: int = 0
    unchanged: int = 0
    changed: int = 0
    refused: int = 0
    locked: int = 0
    total: int | None = None
    bytes_read: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    backend: str = ""
    dry_run: bool = False
    as_of: str | None = None
    peak_change: Change | None = None
    mean_change: Change | None = None
    retries: int = 0
    stopped: str | None = None
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What `import_saved` did.

    Attributes
    ----------
    rows : int
        Saved rows in the file: ``restored + unknown + refused`` at the end.
    restored : int
        Rows whose cell was put back.
    unknown : int
        Saved rows whose key the table doesn't have (any more).
    unknown_keys : tuple
        The first 100 of those keys.
    refused : int
        Saved rows that the database didn't take: a constraint or a trigger refused them.
    torn : bool
        Whether the file ends in half a line, as a kill leaves it. That row had not been changed yet.
    seconds : float
        From the start of the job.
    stopped : str or None
        Why the job ended before the last row; None when it didn't. What had been done by then is committed.
    rejects : tuple of Reject
        The first 100 refused rows.
    """

    rows: int = 0
    restored: int = 0
    unknown: int = 0
    unknown_keys: tuple[Key, ...] = field(default=())
    refused: int = 0
    torn: bool = False
    seconds: float = 0.0
    stopped: str | None = None
    rejects: tuple[Reject, ...] = ()
