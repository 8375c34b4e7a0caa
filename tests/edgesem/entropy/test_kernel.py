"""Compiled kernel: the same bytes, symbols and errors as plain Python, and what happens where there is none."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesem.codec import rounding
from edgesem.entropy import kernel, rans
from edgesem.entropy.kernel import Kernel
from edgesem.entropy.tables import SCALES, Tables
from edgesem.errors import PacketError
from tests.support.rans import TABLES, compile_kernel, message, run_sanitized

ROOT = Path(__file__).parents[3]
LANES = [1 << log for log in range(9)]
thorough = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(chunks, scales, finish=True):
    """The entries of each pass up to the error, if there is one, and that."""
    read = []
    try:
        decoder = rans.Decoder(chunks, TABLES)
        for scale in scales:
            read.append(decoder.read(scale).tolist())
        if finish:
            decoder.finish()
    except PacketError as error:
        return read, str(error)
    return read, None


@pytest.mark.parametrize("lanes", LANES)
@given(st.integers(0, 2**32), st.sampled_from([0, 1, 7, 60, 900]), st.integers(0, 63), st.integers(1, 4))
@thorough
def test_bytes_and_symbols_are_those_of_plain_python(both, lanes, seed, most, high, layers):
    scales, entries = message(seed, most, min(3, high), high)
    plain, compiled = both(rans.encode, entries[:layers], TABLES, lanes)
    assert compiled == plain
    flat = [scale for passes in scales[:layers] for scale in passes]
    plain, compiled = both(outcome, plain, flat)
    assert compiled == plain
    assert compiled == ([e.tolist() for passes in entries[:layers] for e in passes], None)


@pytest.mark.parametrize("lanes", LANES)
@given(st.integers(0, 2**32), st.sampled_from([7, 60, 400]), st.data())
@thorough
def test_damage_gives_the_same_symbols_and_the_same_error(both, lanes, seed, most, data):
    scales, entries = message(seed, most, 3, 50)
    chunks = rans.encode(entries, TABLES, lanes)
    hurt = data.draw(st.integers(0, 3))
    whole = chunks[hurt]
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    place = data.draw(st.integers(0, max(len(whole) - 1, 0)))
    flipped = (
        whole[:place] + bytes(b ^ data.draw(st.integers(1, 255)) for b in whole[place : place + 1]) + whole[place + 1 :]
    )
    chunks[hurt] = data.draw(st.sampled_from([cut, flipped, whole[:place] + data.draw(st.binary(max_size=80))]))
    plain, compiled = both(outcome, chunks, [scale for passes in scales for scale in passes])
    assert compiled == plain


def test_every_slot_of_every_table_is_found(compiled):
    """Each state's low 16 bits are the slot: all 64 * 65536, one lane each."""
    for table in range(SCALES):
        state = np.arange(1 << 16, 1 << 17, dtype=np.uint64)
        scale = np.full(state.size, table)
        entries, taken = compiled.get(state, scale, TABLES, np.zeros(state.size, np.uint16))
        assert np.array_equal(entries, TABLES.lookup[table << 16 : table + 1 << 16])
        assert taken == np.count_nonzero(
            TABLES.frequency[entries] + np.arange(1 << 16) - TABLES.start[entries] < 1 << 16
        )


@pytest.mark.parametrize("scale", [-1, SCALES, 2**40, -(2**63)])
def test_a_table_that_there_is_not_is_an_index_error(compiled, scale):
    with pytest.raises(IndexError, match="no table"):
        compiled.get(np.full(2, 1 << 16, np.uint64), np.array([3, scale]), TABLES, np.zeros(9, np.uint16))


@pytest.mark.parametrize("entry", [-1, TABLES.frequency.size, 2**31 - 1, -(2**31)])
def test_an_entry_that_there_is_not_is_an_index_error(compiled, entry):
    with pytest.raises(IndexError, match="no table has such an entry"):
        compiled.put(np.full(2, 1 << 16, np.uint64), np.array([9, entry]), TABLES, np.zeros(9, np.uint16))


@given(
    st.integers(0, 2**32), st.sampled_from([0, 1, 511, 512, 513, 2000]), st.integers(1, 3),
    st.sampled_from([0, 3, 9, 63]), st.booleans(), st.booleans()
)  # fmt: skip
@thorough
def test_rounding_is_that_of_plain_python(both, seed, count, n, high, inter, even):
    random = np.random.default_rng(seed)
    size, positions = n * count, random.permutation(count + 9)[:count]
    scale = random.integers(0, high + 1, size).astype(np.float32)
    mean = random.integers(-2047, 2048, size).astype(np.float32)
    wanted = (mean / 8 + random.standard_normal(size) * 10 ** random.uniform(-1, 3)).astype(np.float32)
    halves = random.random(size) < 0.3
    wanted[halves] = np.rint(wanted[halves]) + 0.5
    planes, steps = np.full((n, count + 9), np.nan, np.float32), np.ones((n, 1 if even else count + 9), np.float32)
    planes[:, positions] = wanted.reshape(n, count)
    if not even:
        steps[:, positions] = 2.0 ** random.integers(-2, 3, (n, count))
        planes[:, positions] /= steps[:, positions]

    def rounded():
        decoded = mean.copy()
        where = rounding.Wanted(planes, steps, positions)
        entries = rounding.rounded(decoded, scale, where, TABLES, 0 if inter else 7, inter)
        return entries.tolist(), decoded.tolist()

    plain, compiled = both(rounded)
    assert compiled == plain


@pytest.mark.parametrize("scale", [-1, SCALES, np.nan, np.inf, 1e30])
def test_a_table_that_there_is_not_cannot_be_rounded_with(compiled, scale):
    for least in (0, SCALES - 1):
        with pytest.raises(IndexError, match="no table"):
            compiled.round(*np.array([[0, 0], [4, scale]], np.float32), wanted(0, 0), TABLES, least)
    with pytest.raises(IndexError, match="no table"):
        compiled.round(*np.zeros((2, 2), np.float32), wanted(0, 0), TABLES, SCALES)
    with pytest.raises(TypeError, match="for each symbol"):
        compiled.round(np.zeros(3, np.float32), np.zeros(2, np.float32), wanted(0, 0, 0), TABLES, 0)


@pytest.mark.parametrize("place", [-1, 2, 2**40, -(2**63)])
def test_a_position_that_there_is_not_has_no_value(compiled, place):
    planes, steps, places = wanted(0, 0)
    places[1] = place
    with pytest.raises(IndexError, match="a place no position"):
        compiled.round(*np.zeros((2, 2), np.float32), (planes, steps, places), TABLES, 0)
    with pytest.raises(IndexError):
        compiled.round(*np.zeros((2, 2), np.float32), (planes, np.ones((1, 3), np.float32), np.arange(2)), TABLES, 0)


def wanted(*values: float) -> rounding.Wanted:
    """These values of one channel, at as many positions."""
    return rounding.Wanted(np.array([values], np.float32), np.ones((1, 1), np.float32), np.arange(len(values)))


def test_what_is_no_number_is_rounded_to_one(compiled):
    entries = compiled.round(*np.array([[0], [9]], np.float32), wanted(np.nan), TABLES, 0)
    assert entries.tolist() == [TABLES.centre[9] - TABLES.radius[9]]


def test_words_stay_within_the_room_that_there_is(compiled):
    rare = np.repeat(np.argmin(TABLES.frequency), 100)
    around = np.full(60, 7, np.uint16)
    with pytest.raises(IndexError, match="no room"):
        compiled.put(np.full(4, 1 << 20, np.uint64), rare, TABLES, around[20:40])
    assert (around[:20] == 7).all()
    assert (around[40:] == 7).all()


def test_without_lanes_nothing_is_coded(compiled):
    none = np.empty(0, np.uint64)
    with pytest.raises(IndexError):
        compiled.put(none, np.array([3]), TABLES, np.zeros(9, np.uint16))
    with pytest.raises(IndexError):
        compiled.get(none, np.array([3]), TABLES, np.zeros(9, np.uint16))


def test_an_array_with_gaps_or_of_another_type_is_refused(compiled):
    words = np.zeros(9, np.uint16)
    for state in (np.full(8, 1 << 16, np.uint64)[::2], np.full(4, 1 << 16, np.int32)):
        with pytest.raises(TypeError, match="no array of uint64"):
            compiled.put(state, np.array([3] * 4), TABLES, words)


def test_the_big_table_is_not_made_where_the_kernel_runs(compiled, monkeypatch):
    monkeypatch.setattr(kernel, "load", lambda: compiled)
    tables = Tables.of(TABLES.radius, TABLES.frequency.astype(np.int64))
    chunks = rans.encode([[np.arange(900)]], tables, 1)
    rans.Decoder(chunks, tables).read(np.zeros(0, np.int64))
    assert "lookup" not in vars(tables)


def choice(**env: str) -> tuple[int, str]:
    """What a fresh Python says runs the coder: exit code, and its last line."""
    code = "from edgesem.entropy import kernel; print(kernel.choose()); print(kernel.load() is not None)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={"PATH": "", **env}
    )
    return run.returncode, (run.stdout + run.stderr).strip()


def test_a_variable_asks_for_plain_python():
    code, said = choice(EDGESEM_KERNEL="python")
    assert code == 0
    assert "runtime='python'" in said
    assert "EDGESEM_KERNEL" in said
    assert said.endswith("False")
    code, said = choice(EDGESEM_KERNEL="rust")
    assert code == 1
    assert "EDGESEM_KERNEL may be `python` or unset, got 'rust'" in said


@pytest.mark.parametrize("share", [0.0, 0.001, 0.004, 0.01, 0.3, 0.5])
def test_a_kernel_that_was_cut_off_is_refused_and_kills_nobody(tmp_path, share):
    whole = compile_kernel(tmp_path / "whole.so").read_bytes()
    cut = tmp_path / "cut.so"
    cut.write_bytes(whole[: int(share * len(whole))])
    code = "import sys; from pathlib import Path; from edgesem.entropy.kernel import Kernel; Kernel(Path(sys.argv[1]))"
    run = subprocess.run([sys.executable, "-c", code, cut], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1, run.returncode  # an error of Python, no signal
    assert "OSError" in run.stderr


def test_what_is_no_kernel_of_this_machine_or_version_is_not_used(tmp_path, monkeypatch):
    foreign, other = tmp_path / "foreign.so", tmp_path / "other.so"
    foreign.write_bytes(b"\x7fELF" + bytes(60))
    old = compile_kernel(other, "-Dedgesem_kernel_version=renamed")
    for path, why in ((foreign, "install edgesem again"), (old, "is no kernel"), (tmp_path / "none.so", "there is no")):
        monkeypatch.setattr(kernel, "LIBRARY", path)
        kernel._found.cache_clear()
        try:
            assert kernel.load() is None
            assert kernel.choose().runtime == "python"
            assert why in kernel.choose().reason
        finally:
            kernel._found.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ctypes", None)  # a Python that was made without it
        with pytest.raises(ImportError):
            Kernel(tmp_path / "none.so")
    version = kernel._VERSION
    monkeypatch.setattr(kernel, "_VERSION", version + 1)
    with pytest.raises(OSError, match=f"has version {version}, not {version + 1}"):
        Kernel(compile_kernel(tmp_path / "now.so"))


def test_the_kernel_needs_no_library(tmp_path):
    path = compile_kernel(tmp_path / "libkernel.so", "-nostdlib", "-Wl,--no-undefined")
    assert Kernel(path)


HAMMER = """
import sys
from pathlib import Path
import numpy as np
from edgesem.entropy import kernel, rans
from edgesem.errors import PacketError
from tests.support.rans import TABLES, decode, message

loops = kernel.Kernel(Path(sys.argv[1]))
kernel.load = lambda: loops
errors = 0
for seed in range(300):
    random = np.random.default_rng(seed)
    scales, entries = message(seed, 300, 3, 50)
    chunks = rans.encode(entries, TABLES, 1 << seed % 9)
    hurt = random.integers(0, 4)
    place = random.integers(0, len(chunks[hurt]) + 1)
    chunks[hurt] = chunks[hurt][:place] + random.bytes(random.choice([0, 1, 2, 40]))
    try:
        decode(chunks, 4, scales)
    except PacketError:
        errors += 1
    for wrong in (random.integers(-(2**62), 2**62, 9), np.array([4, -1])):
        try:
            loops.get(np.full(2, 1 << 16, np.uint64), wrong, TABLES, np.zeros(1, np.uint16))
            raise SystemExit("a wrong scale index was taken")
        except (IndexError, PacketError):
            pass
print("errors", errors)
"""


def test_damaged_messages_do_nothing_undefined(tmp_path):
    assert int(run_sanitized(HAMMER, tmp_path).split()[1]) > 100
