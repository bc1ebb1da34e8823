"""Arrays in files: back as they were, and damage names the file and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brats_seg.core.errors import InputError, ModelError
from brats_seg.train.data import open_arrays, write_arrays


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {"key": np.array("some words"), "study/logits": np.arange(6, dtype=np.int8).reshape(2, 3)}
    write_arrays(path, arrays)
    assert list(tmp_path.iterdir()) == [path]
    with open_arrays(path) as held:
        assert set(held) == set(arrays)
        assert str(held["key"]) == "some words"
        np.testing.assert_array_equal(held["study/logits"], arrays["study/logits"])
        assert held["study/logits"].dtype == np.int8
    first = path.read_bytes()
    write_arrays(path, arrays)
    assert path.read_bytes() == first


def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.ones(3)})

    class Stopped:
        """An array whose writing is interrupted."""

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_arrays(path, {"a": np.zeros(3), "b": Stopped()})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == [path]
    with open_arrays(path) as held:
        assert held["a"].all()


def test_damage_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match=r"a.npz is missing or damaged \(No such file or directory\); remove it"):
        open_arrays(path).__enter__()
    write_arrays(path, {"a": np.arange(7)})
    with pytest.raises(InputError, match=r"a.npz is missing or damaged .*b is not a file"), open_arrays(path) as held:
        held["b"]
    with pytest.raises(InputError, match="cannot reshape"), open_arrays(path) as held:
        held["a"].reshape(2, 3)
    path.write_bytes(path.read_bytes()[:60])
    with (
        pytest.raises(ModelError, match=r"a.npz is missing or damaged .*; pack the data set again"),
        open_arrays(path, remedy="pack the data set again", error=ModelError),
    ):
        pass
