"""Floats become integers only where they are known to fit.

A float below 0, above the range, or NaN has no integer of a type: what comes out depends on the processor, on aarch64
even on its place in an array. Each cast to an integer type clips its value in the same expression, or is listed here.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for name in ("edgesem", "export", "runtime", "devices") for path in (ROOT / name).rglob("*.py"))
INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)} | {"int", "intp", "uintp"}
MAKERS = {"asarray", "array", "ascontiguousarray", "full", "fromiter"}

ALLOWED: dict[str, set[str]] = {
    # Integers already, of a type that the new one holds
    "edgesem/codec/coder.py": {"np.where(copied, reference.levels, levels)"},
    "edgesem/codec/compiled_context.py": {"places"},  # below 2^25 for the largest picture
    "edgesem/codec/network_form.py": {"bias", "shift", "weight"},  # whole, and below 2^24
    "edgesem/codec/rounding.py": {"scale.take(coded)"},  # a float, 0 to 63: RunnersKnown refuses others
    "edgesem/codec/motion.py": {
        "np.repeat(np.repeat(field, BLOCK, 0), BLOCK, 1)[:height, :width]",
        "reference.levels[rows, columns]",
    },
    "edgesem/codec/latent.py": {"(height, width)", "self.copied_levels", "self.values.shape[1:]"},
    "edgesem/entropy/lane_termination.py": {"states"},
    "edgesem/low_delay_video.py": {"decoded[-1].to_ndarray(format='rgb24')"},
    "edgesem/entropy/kernel.py": {"entries", "scale"},
    "edgesem/entropy/rans.py": {
        "1 << PRECISION",
        "PRECISION",
        "_LOW",
        "entries",
        "scale",
        "self.words[self.top:self.top + count]",
        "writer.words[a:b]",
    },
    "edgesem/entropy/tables.py": {
        "8 * symbol - np.sign(symbol) * less",
        "ends - radius - 1",
        "frequency",
        "radius",
        "self.ends - sizes + tops",
        "self.frequency",
        "start",
    },
    "edgesem/information/discrete.py": {"np.unique(labels, return_inverse=True)[1]"},
    "edgesem/quality/judges.py": {"picture", "picture.astype(np.int16) - 128"},  # uint8 less 128 is int8
    "edgesem/quality/metrics.py": {"original"},
    "export/bench/rd/stills.py": {"frames[0].to_ndarray(format='rgb24')"},
    "export/bundle/pipeline.py": {"reference.frequency", "tables.frequency"},
    "export/data/clips.py": {"np.concatenate(rows).round()"},  # medians of bytes
    "export/graphs/context.py": {"[number]"},
    "export/graphs/edit.py": {"[-1, weight[0].size]", "[1, outputs]", "[inputs]", "[side]"},
    "export/training/reference.py": {"levels.shape"},
    "runtime/bench/fleet/search.py": {"steps[:, ::2] | steps[:, 1::2] << 4", "streams[block.start:block.stop]"},
    "runtime/bench/link/figures.py": {"np.concatenate([[True], window, [True]])"},
    "runtime/capture/privacy_mask.py": {  # yes or no
        "(y0 <= y) & (y1 > y) & (left > 0)",
        "(y1 <= y) & (y0 > y) & (left < 0)",
        "turns != 0",
    },
    "runtime/catalogue/block.py": {"streams"},
    "runtime/catalogue/search.py": {
        "[row[0] for row in rows]",
        "[row[1] for row in rows]",
        "np.arange(len(fits)) - starts",
    },
    # Floats that the code before has bounded
    "runtime/receiver/held_latent.py": {
        "eighths[there]",
        "np.where(large, _ESCAPE, whole)",
        "np.frombuffer(self.values[mask_end:small_end], np.int8)",
    },
    "edgesem/codec/drawing.py": {"np.rint(grey, out=grey)"},  # 0 to 255
    "edgesem/information/estimate.py": {"codes", "n_x", "n_y"},  # counts of neighbours, and places in a dict
    "edgesem/semantics/embedding.py": {
        "best",  # -7 to 7
        "best.astype(np.int8) & 15",
        "np.stack([packed & 15, packed >> 4], axis=1).ravel()",
    },
    "edgesem/trace.py": {"np.round(times_ms - times_ms[0])", "times_ms"},  # 0 to two hours
    "export/bundle/tables.py": {"np.floor(ideal)", "radius"},  # shares of 2^16
    "export/data/sequences.py": {"np.rint(self._place + self._speed * index)"},  # pixels, into a type with a sign
}


def is_integer_type(node: ast.AST) -> bool:
    """Whether an expression names an integer type of numpy, as in np.uint8, "<u2" or int."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.lstrip("<>=|").rstrip("0123456789") in ("u", "i", "int", "uint")
    return ast.unparse(node).removeprefix("np.") in INTEGERS


def casts(tree: ast.AST) -> list[ast.expr]:
    """The values that are cast to an integer type anywhere in a module."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function, types = call.func, [*call.args[1:], *(word.value for word in call.keywords if word.arg == "dtype")]
        if not isinstance(function, ast.Attribute):
            continue
        owner = ast.unparse(function.value)
        if function.attr == "astype" and call.args and is_integer_type(call.args[0]):
            found.append(function.value)
        elif (owner == "np" and function.attr in MAKERS and any(map(is_integer_type, types))) or (
            owner == "np" and function.attr in INTEGERS - {"int"} and call.args
        ):
            found.append(call.args[0])
    return found


def is_safe(value: ast.expr) -> bool:
    """Whether a value is clipped, lies between bounds of np.linspace, or is made of numbers written in the source."""
    calls = [ast.unparse(node.func) for node in ast.walk(value) if isinstance(node, ast.Call)]
    if any(name.endswith("clip") or name == "np.linspace" for name in calls):
        return True
    return not any(isinstance(node, (ast.Name, ast.Attribute, ast.Call)) for node in ast.walk(value))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_cast_to_integers_clips_or_is_known_to_fit(path):
    unsafe = {ast.unparse(value) for value in casts(ast.parse(path.read_text(encoding="utf-8"))) if not is_safe(value)}
    allowed = ALLOWED.get(str(path.relative_to(ROOT)), set())
    assert unsafe - allowed == set(), "clip it before the cast, or list it here if it always fits"
    assert allowed - unsafe == set(), "gone: take it off the list"


def test_the_walk_sees_every_way_to_cast():
    code = (
        "x.astype(np.uint8)\nnp.asarray(y * 2, np.int16)\nnp.uint8(z)\nnp.array(v, dtype=np.uint8)\nw.astype('<u2')\n"
    )
    assert [ast.unparse(value) for value in casts(ast.parse(code))] == ["x", "y * 2", "z", "v", "w"]
    assert [is_safe(value) for value in casts(ast.parse("np.uint8(3)\nx.clip(0, 9).astype(int)\nx.astype(int)"))] == [
        True,
        True,
        False,
    ]
