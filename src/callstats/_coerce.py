"""Conversion to whole numbers: exact to the bit, or an error."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from callstats._timestamps import since_epoch
from callstats._types import FIRST_TIME, I64_MAX, U64_MAX, AnyArray
from callstats.errors import SeriesError, shorten_repr

NAIVE = "give it a time zone, such as timezone.utc"
"""The advice for a datetime that lacks a zone."""

_FLOAT_EXACT = 2**53  # float64 is exact only below


@dataclass(frozen=True, slots=True)
class Domain:
    """The values that a column of whole numbers may have."""

    dtype: npt.DTypeLike
    typecode: str
    min: int
    max: int
    description: str
    dates: bool = False
    holes: bool = False


METRIC = Domain(np.uint64, "Q", 0, U64_MAX, f"a whole number from 0 to {U64_MAX}", holes=True)
TIME = Domain(np.int64, "q", FIRST_TIME, I64_MAX, f"nanoseconds from {FIRST_TIME} to {I64_MAX}", dates=True)
INDEX = Domain(np.int64, "q", 0, I64_MAX, f"a whole number from 0 to {I64_MAX}")
COUNT = Domain(np.int64, "q", 1, I64_MAX, f"a whole number from 1 to {I64_MAX}")


def column(values: object, where: str, kind: Domain) -> tuple[AnyArray, AnyArray | None]:
    """Copy values into a new 1-D array. Return it and a mask of the values present, which is None when all are.

    `where` names the values in errors. Neither lists nor arrays go through float.
    """
    mask: AnyArray | None = None
    if isinstance(values, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(values)
        values = np.asarray(values.data)
        if values.ndim == 1 and mask.any():
            if not kind.holes:
                _reject_value(where, int(mask.argmax()), "a masked value", kind)
            # The values below a mask are arbitrary.
            values = np.where(mask, np.zeros((), dtype=values.dtype), values)
    if isinstance(values, (str, bytes, bytearray, AbstractSet, Mapping)) or not (
        hasattr(values, "__array__") or isinstance(values, Iterable)
    ):
        raise SeriesError(f"{where} must be a sequence of whole numbers, got {shorten_repr(values)}")
    if kind.dates and getattr(getattr(values, "dtype", None), "tz", None) is not None:
        # By default, numpy makes objects of pandas' times with a zone, and drops their nanoseconds.
        values = np.asarray(values, dtype=f"M8[{cast(Any, values).dtype.unit}]")
    if hasattr(values, "__array__") or isinstance(values, (memoryview, array)):
        data = np.asarray(values)
        if data.ndim != 1:
            raise SeriesError(f"{where} must have one dimension, got {data.ndim}")
        if data.dtype.kind == "f" and not isinstance(values, np.ndarray) and hasattr(values, "tolist"):
            data = np.array([*values.tolist(), None], dtype=object)[:-1]  # absent values made floats of all
        if data.dtype.kind != "O":
            out = _from_array(data, where, kind)
            return out, None if mask is None or not mask.any() else ~mask
        values = data.tolist()
    out, present = _from_list(list(cast("Iterable[Any]", values)), where, kind)
    if mask is not None and mask.any():
        present = ~mask if present is None else present & ~mask
    return out, present


def scalar(value: object, where: str, kind: Domain) -> int | None:
    """Return one value as an int; None if it is absent."""
    return None if kind.holes and _is_absent(value) else _to_int(value, where, None, kind)


def _from_array(data: AnyArray, where: str, kind: Domain) -> AnyArray:
    if data.dtype.kind == "M" and kind.dates:
        return _from_dates(data, where, kind)
    if data.dtype.kind == "f":
        data = data.astype(np.promote_types(data.dtype, np.float64))  # the limit exceeds narrower types
        bad = ~(np.isfinite(data) & (np.abs(data) < _FLOAT_EXACT))
        bad |= np.where(bad, 0, data) % 1 != 0
        if bad.any():
            i = int(bad.argmax())
            _reject_value(where, i, shorten_repr(data[i]), kind)
        data = data.astype(np.int64)
    elif data.dtype.kind not in "iu":
        if len(data):
            _reject_value(where, 0, shorten_repr(data[0]), kind)
        return np.zeros(0, dtype=kind.dtype)
    bad = (data < kind.min) | (data > kind.max)
    if bad.any():
        i = int(bad.argmax())
        _reject_value(where, i, shorten_repr(data[i]), kind)
    return np.array(data, dtype=kind.dtype, order="C")


def _from_dates(data: AnyArray, where: str, kind: Domain) -> AnyArray:
    unit, step = np.datetime_data(data.dtype)
    if unit == "generic":
        if len(data):
            _reject_value(where, 0, "NaT" if np.isnat(data[0]) else f"{shorten_repr(data[0])}, a date without a unit", kind)
        return np.zeros(0, dtype=kind.dtype)
    fixed = data.astype(data.dtype.newbyteorder("="))
    if unit in ("Y", "M"):  # of no fixed length; days cover all of int64 nanoseconds, and what numpy can't turn into days is none
        steps, most = fixed.view(np.int64), 12 * 300 // step
        fixed = np.where((steps >= -most) & (steps <= most), steps, 0).view(fixed.dtype).astype("M8[D]")
    unit, step = np.datetime_data(fixed.dtype)
    tick, ns = np.timedelta64(1, cast(Any, unit)), np.timedelta64(1, "ns")
    scale, parts = step * max(int(tick // ns), 1), max(int(ns // tick), 1)  # a tick is scale / parts nanoseconds
    raw = fixed.view(np.int64)
    bad = (raw < -(min(-kind.min * parts, I64_MAX) // scale)) | (raw > I64_MAX // scale)
    bad |= (raw * scale % parts != 0) | (fixed.astype(data.dtype) != data)  # no days, or NaT
    if bad.any():
        i = int(bad.argmax())
        _reject_value(where, i, shorten_repr(data[i]), kind)
    return raw * scale // parts


def _from_list(values: list[Any], where: str, kind: Domain) -> tuple[AnyArray, AnyArray | None]:
    if set(map(type, values)) <= {int}:
        try:
            out = np.array(array(kind.typecode, values), dtype=kind.dtype)
        except OverflowError:
            pass
        else:
            if not len(out) or (int(out.min()) >= kind.min and int(out.max()) <= kind.max):
                return out, None
    present = np.ones(len(values), dtype=np.bool_)
    integers = [0] * len(values)
    for i, value in enumerate(values):
        if kind.holes and _is_absent(value):
            present[i] = False
        else:
            integers[i] = _to_int(value, where, i, kind)
    return np.array(array(kind.typecode, integers), dtype=kind.dtype), None if present.all() else present


def _to_int(value: Any, where: str, i: int | None, kind: Domain) -> int:
    if isinstance(value, np.datetime64) and kind.dates:
        try:
            return int(_from_dates(np.array([value]), where, kind)[0])
        except SeriesError:
            _reject_value(where, i, shorten_repr(value), kind)
    if isinstance(value, datetime) and kind.dates and type(value).__name__ != "NaTType":
        if value.utcoffset() is None:
            _reject_value(where, i, f"{shorten_repr(value)}: {NAIVE}", kind)
        value = since_epoch(value)
    if isinstance(value, (float, np.floating)) and -_FLOAT_EXACT < value < _FLOAT_EXACT and value == int(value):
        value = int(value)
    integer: int | None = None
    if not isinstance(value, (bool, np.bool_, float, np.floating)):
        with suppress(TypeError):
            integer = operator.index(value)
    if integer is None or not kind.min <= integer <= kind.max:
        _reject_value(where, i, shorten_repr(value), kind)
    return integer


def _is_absent(value: object) -> bool:
    return value is None or value is np.ma.masked or type(value).__name__ == "NAType"  # of pandas, which is not imported


def _reject_value(where: str, i: int | None, value: str, kind: Domain) -> NoReturn:
    raise SeriesError(f"{where if i is None else f'{where}[{i}]'} must be {kind.description}, got {value}")
