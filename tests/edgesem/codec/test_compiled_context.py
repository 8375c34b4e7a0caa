"""Context networks in the compiled kernel: what ONNX Runtime gives, to the bit, and nothing for any other graph."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgesem
from edgesem.bundle.bundle import KEY, REFERENCE, Bundle
from edgesem.bundle.graph_file import read_graph
from edgesem.bundle.runner import OrtRunner
from edgesem.codec import compiled_context, graphs
from edgesem.codec.compiled_context import CompiledKnown, compile_networks
from edgesem.codec.context import RunnersKnown
from edgesem.codec.network_form import OtherForm, form_of
from edgesem.codec.options import PackOptions
from edgesem.codec.rounding import Rounder, Wanted
from edgesem.entropy.schedule import CHANNELS, PASSES, PERIOD, VALUE_LIMIT, CodedPositions
from edgesem.errors import BundleError
from edgesem.packet.side_information import Reference, SideInformation
from tests.support.rans import run_sanitized

BUNDLE = Bundle.open()
FOLDER = BUNDLE.folder
few = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="session", params=["key", "reference"])
def networks(request, compiled):
    """The networks of keyframes and of inter frames, compiled, and in ONNX Runtime."""
    names = KEY if request.param == "key" else REFERENCE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_context, "load", lambda: compiled)
        found = compile_networks([FOLDER / name for name in names])
    assert found is not None
    return found, [OrtRunner(FOLDER / name) for name in names], request.param


@given(st.integers(0, 2**32), st.integers(1, 13), st.integers(1, 13), st.booleans(), st.booleans())
@few
def test_the_kernel_expects_what_onnx_runtime_does(networks, seed, height, width, largest, copies):
    both, runners, kind = networks
    random = np.random.default_rng(seed)
    limit, shape = VALUE_LIMIT if largest else 30, (height, width)
    levels = random.integers(0, 256, shape).astype(np.int32)
    reference = had = copied = None
    if kind == "reference":
        reference = random.integers(-limit, limit + 1, (CHANNELS, *shape)).astype(np.float32)
        had = random.integers(0, 256, shape).astype(np.int32)
        copied = random.random(shape) < random.random() if copies else None
    for way in range(both.kernel.ways):
        both.kernel.way = way
        known = CompiledKnown(both, levels, reference, had, CodedPositions(shape, copied))
        other = RunnersKnown(runners, levels, reference, had, copied)
        for index in range(len(PASSES)):
            mean, scale = known.expect(index)
            for found, wanted in zip((mean, scale), other.expect(index), strict=True):
                assert found.dtype == np.float32
                assert np.array_equal(found, wanted), (index, way)
            decided = np.clip(mean + random.integers(-limit, limit + 1, mean.shape), -VALUE_LIMIT, VALUE_LIMIT)
            known.add(index, decided.astype(np.float32))
            other.add(index, decided.astype(np.float32))


@given(st.integers(0, 2**32), st.integers(1, 13), st.integers(1, 13), st.booleans())
@few
def test_a_pass_in_one_is_what_its_parts_decide(networks, seed, height, width, even):
    both, _, kind = networks
    random, shape = np.random.default_rng(seed), (height, width)
    levels = random.integers(0, 256, shape).astype(np.int32)
    reference = had = copied = None
    if kind == "reference":
        reference = random.integers(-VALUE_LIMIT, VALUE_LIMIT + 1, (CHANNELS, *shape)).astype(np.float32)
        had, copied = random.integers(0, 256, shape).astype(np.int32), random.random(shape) < random.random()
    positions = CodedPositions(shape, copied)
    values = random.laplace(0, 10 ** random.uniform(-1, 3), (CHANNELS, *shape)).astype(np.float32)
    steps = BUNDLE.gain[140][:, None, None] if even else random.uniform(0.1, 3, values.shape).astype(np.float32)
    tables = BUNDLE.tables if reference is None else BUNDLE.reference_tables
    knowns = [CompiledKnown(both, levels, reference, had, positions) for _ in range(2)]
    rounders = [Rounder(values, steps, tables, positions, 4, inter=reference is not None) for _ in range(2)]
    for index in range(len(PASSES)):
        mean, scale = knowns[0].expect(index)
        parts = rounders[0](index, mean.ravel(), scale.ravel()).reshape(mean.shape).clip(-VALUE_LIMIT, VALUE_LIMIT)
        knowns[0].add(index, parts)
        one = rounders[1]
        decided, entries = knowns[1].decide(index, one.wanted(index), tables, one.least(index))
        one.took(index, entries)
        assert np.array_equal(decided, parts)
        assert np.array_equal(knowns[0]._rows, knowns[1]._rows)
        group = PASSES[index].group
        assert np.array_equal(one.entries[group][-1], rounders[0].entries[group][-1])
    assert one.bits == rounders[0].bits


def test_a_pass_with_what_is_not_there_is_an_index_error(networks):
    found, _, kind = networks
    reference = None if kind == "key" else np.zeros((CHANNELS, 3, 5), np.float32)
    positions = CodedPositions((3, 5), None)
    known = CompiledKnown(found, np.zeros((3, 5), np.int32), reference, np.zeros((3, 5)), positions)
    rounder = Rounder(np.zeros((CHANNELS, 3, 5)), np.ones((CHANNELS, 1, 1)), BUNDLE.tables, positions, 4, inter=False)
    planes, steps, places = rounder.wanted(4)
    with pytest.raises(IndexError):
        known.decide(4, Wanted(planes, steps, places + 9), BUNDLE.tables, 0)
    with pytest.raises(IndexError):
        known.decide(4, Wanted(planes, steps, places), BUNDLE.tables, 64)
    with pytest.raises(TypeError):
        known.decide(4, Wanted(planes, steps, places[1:]), BUNDLE.tables, 0)


@pytest.mark.parametrize("index", range(len(PASSES)))
def test_the_phases_of_a_pass_have_the_same_taps_known(index):
    """Else the kernel would read, at one of them, what is not decoded yet."""
    sweep = PASSES[index]
    before = [one.mask(PERIOD, PERIOD) for one in PASSES[:index] if one.group == sweep.group]
    known = np.any(before, axis=0) if before else np.zeros((PERIOD, PERIOD), bool)
    seen = {np.roll(known, (-row, -column), (0, 1)).tobytes() for row, column in sweep.phases}
    assert len(seen) == 1


@pytest.mark.parametrize("inter", [False, True])
def test_packets_and_latents_are_those_of_onnx_runtime(compiled, monkeypatch, inter):
    monkeypatch.setattr(compiled_context, "load", lambda: compiled)
    fast, slow = edgesem.load(), edgesem.load()
    monkeypatch.setattr(slow._coder, "_networks_of", lambda names: [slow._graphs.runner(name) for name in names])
    random = np.random.default_rng(5)
    for height, width, budget in ((240, 320, 1500), (117, 203, 700)):
        frame = np.kron(random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))
        frame = frame[:height, :width].astype(np.uint8)
        latent, options = fast.analyze(frame), PackOptions()
        if inter:
            _, known = slow.pack_decoded(latent, budget_bytes=4 * budget)
            options = PackOptions(reference=known, side_info=SideInformation(reference=Reference(0, 4)), frame=1)
            latent = fast.analyze(np.roll(frame, 8, 1))
        ours, theirs = (one.pack_decoded(latent, budget_bytes=budget, options=options) for one in (fast, slow))
        assert ours[0].to_bytes() == theirs[0].to_bytes()
        assert np.array_equal(ours[1].values, theirs[1].values)
        for packet in (ours[0], *map(ours[0].prefix, (1, 3))):  # layers may be missing
            found = [one.unpack(packet, options.reference).values for one in (fast, slow)]
            assert np.array_equal(*found)
        fewer = (one.pack(latent, budget_bytes=budget, options=replace(options, layers=2)) for one in (fast, slow))
        assert next(fewer).to_bytes() == next(fewer).to_bytes()
    assert any(isinstance(one, compiled_context.CompiledNetworks) for one in fast._graphs._compiled.values())


def test_a_runner_that_was_lent_does_the_work(monkeypatch):
    codec = edgesem.load()
    runner, calls = OrtRunner(FOLDER / KEY[3]), []
    monkeypatch.setattr(runner, "run", lambda feed, run=runner.run: calls.append(1) or run(feed))
    codec.use(KEY[3].removesuffix(".onnx"), runner)
    codec.pack(codec.analyze(np.full((32, 32, 3), 90, np.uint8)), quality=0.5)
    assert calls


def test_without_a_kernel_there_are_no_compiled_networks(monkeypatch):
    monkeypatch.setattr(compiled_context, "load", lambda: None)
    assert compile_networks([FOLDER / name for name in KEY]) is None
    monkeypatch.setattr(graphs, "compile_networks", lambda files: None)
    codec = edgesem.load()
    assert codec.unpack(codec.pack(codec.analyze(np.zeros((16, 16, 3), np.uint8)), quality=0.5)).values.shape == (
        96,
        1,
        1,
    )


@pytest.mark.parametrize("name", [KEY[0], KEY[4], KEY[10], REFERENCE[0], REFERENCE[3], REFERENCE[10]])
def test_a_graph_that_does_anything_else_has_no_known_form(name, tmp_path):
    """Each node, attribute and small constant in turn is changed; no change may go unnoticed."""
    index = int(name.removesuffix(".onnx")[-2:])
    whole = onnx.load(FOLDER / name)
    form_of(read_graph(FOLDER / name), PASSES[index])

    def refused(model) -> bool:
        path = tmp_path / "changed.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            form_of(read_graph(path), PASSES[index])
        except OtherForm:
            return True
        return False

    for place, node in enumerate(whole.graph.node):
        for change in ("kind", "inputs", *range(len(node.attribute))):
            model = onnx.ModelProto.FromString(whole.SerializeToString())
            changed = model.graph.node[place]
            if change == "kind":
                changed.op_type = "Ceil" if node.op_type == "Floor" else "Neg"
            elif change == "inputs":
                changed.input[0] = "nothing"
            elif changed.attribute[change].ints:
                changed.attribute[change].ints[0] += 1
            else:
                changed.attribute[change].i += 1
            assert refused(model), (node.op_type, change)
    for place, constant in enumerate(whole.graph.initializer):
        array = onnx.numpy_helper.to_array(constant)
        if array.dtype == np.int64 or array.size == 1:
            model = onnx.ModelProto.FromString(whole.SerializeToString())
            changed = (array.astype(np.float64) * 2 + 2).clip(-(2**62), 2**62).astype(array.dtype)
            model.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(changed, constant.name))
            assert refused(model), constant.name


def test_a_graph_that_is_not_there_is_left_to_onnx_runtime(compiled, monkeypatch, tmp_path):
    monkeypatch.setattr(compiled_context, "load", lambda: compiled)
    with pytest.raises(BundleError, match="cannot be read"):
        read_graph(tmp_path / "none.onnx")
    assert compile_networks([FOLDER / KEY[0], tmp_path / "none.onnx"]) is None


@pytest.mark.parametrize("name", [KEY[3], REFERENCE[3], REFERENCE[8]])
def test_a_graph_with_parts_that_are_missing_or_of_another_shape_has_no_known_form(name, tmp_path):
    """ONNX Runtime would spread such a constant over other axes, or refuse the graph; nothing else is raised."""
    index, data, path = int(name.removesuffix(".onnx")[-2:]), (FOLDER / name).read_bytes(), tmp_path / "changed.onnx"
    whole = onnx.ModelProto.FromString(data)

    def refused(model) -> bool:
        path.write_bytes(model.SerializeToString())
        try:
            form_of(read_graph(path), PASSES[index])
        except (OtherForm, BundleError):
            return True
        return False

    for place, node in enumerate(whole.graph.node):
        for change in ("inputs", "domain", *range(len(node.attribute))):
            model = onnx.ModelProto.FromString(data)
            changed = model.graph.node[place]
            if change == "inputs":
                del changed.input[:]
            elif change == "domain":
                changed.domain = "somebody"
            else:
                del changed.attribute[change].ints[:]
                changed.attribute[change].i += 1
            assert refused(model), (node.op_type, change)
    for place, constant in enumerate(whole.graph.initializer):
        array = onnx.numpy_helper.to_array(constant)
        shapes = [array[None]] if array.ndim < 4 else [array[:, :0], array[None]]
        shapes += [array.ravel()] if array.ndim > 1 else []
        for other in shapes:
            model = onnx.ModelProto.FromString(data)
            model.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(other, constant.name))
            assert refused(model), (constant.name, other.shape)
    model = onnx.ModelProto.FromString(data)
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([0, 2**63 - 1, 2**63 - 1])
    model.graph.initializer[0].raw_data = b""
    assert refused(model)


@pytest.mark.parametrize("factor", [0.5, 1e4, np.nan, np.inf])
def test_weights_that_are_no_integers_or_too_large_have_no_known_form(factor, tmp_path):
    model = onnx.load(FOLDER / KEY[5])
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            array = onnx.numpy_helper.to_array(tensor)
            with np.errstate(all="ignore"):
                tensor.CopyFrom(onnx.numpy_helper.from_array((array * factor).astype(np.float16), tensor.name))
    (tmp_path / "graph.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(OtherForm):
        form_of(read_graph(tmp_path / "graph.onnx"), PASSES[5])


@given(st.integers(0, 10), st.data())
@settings(deadline=None, max_examples=200)
def test_bytes_that_are_no_graph_are_refused_and_nothing_else(tmp_path_factory, index, data):
    whole = (FOLDER / KEY[index]).read_bytes()
    place = data.draw(st.integers(0, len(whole)))
    hurt = data.draw(
        st.sampled_from([whole[:place], whole[:place] + data.draw(st.binary(max_size=30)) + whole[place + 5 :]])
    )
    path = tmp_path_factory.mktemp("graph") / "graph.onnx"
    path.write_bytes(data.draw(st.sampled_from([hurt, data.draw(st.binary(max_size=200))])))
    try:
        form_of(read_graph(path), PASSES[index])
    except (BundleError, OtherForm):
        return


@given(st.data())
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_lies_beyond_an_array_is_an_index_error(networks, data):
    found, _, kind = networks
    index = data.draw(st.integers(0, len(PASSES) - 1))
    known = CompiledKnown(
        found,
        np.zeros((3, 5), np.int32),
        *((np.zeros((CHANNELS, 3, 5)), np.zeros((3, 5))) if kind != "key" else (None,) * 2),
        CodedPositions((3, 5), None),
    )
    network = found.passes[index]
    plan, weights, rest = network.plan_for(5, known._length).copy(), network.weights, network.rest
    places = known._places(index)
    if not places.size:
        return
    places = places.copy()
    hurt = data.draw(st.sampled_from(["plan", "places", "weights", "rest", "rows", "way"]))
    rows, way = known._rows.ravel(), found.kernel.way
    if hurt == "plan":
        plan[data.draw(st.integers(0, plan.size - 1))] = data.draw(st.integers(-(2**31), 2**31 - 1))
    elif hurt == "places":
        places[0] = data.draw(st.sampled_from([-1, rows.size, 2**31 - 1, -(2**31)]))
    elif hurt == "weights":
        weights = weights[: data.draw(st.integers(0, weights.size - 1))]
    elif hurt == "rest":
        rest = rest[: data.draw(st.integers(0, rest.size - 1))]
    elif hurt == "rows":
        rows = rows[: data.draw(st.integers(0, int(places.max())))]
    else:
        found.kernel.way = data.draw(st.sampled_from([-1, found.kernel.ways, 2**40]))
    n = PASSES[index].stop - PASSES[index].start
    try:
        found.kernel.expect(rows, places, (plan, weights, rest), n, -1)
    except IndexError:
        return
    finally:
        found.kernel.way = way
    assert hurt == "plan"  # another plan may be a right one


def test_values_beyond_the_rows_are_an_index_error(compiled):
    rows = np.zeros(500, np.int16)
    for place, where in ((490, (2, 8, -1, -1, 6, -1)), (-1, (2, 8, -1, -1, 6, -1)), (0, (499, 8, -1, -1, 6, -1)),
                         (0, (2, 8, 104, 400, 99, -1)), (0, (2, 2**40, -1, -1, 6, -1))):  # fmt: skip
        with pytest.raises(IndexError):
            compiled.note(rows, np.array([place], np.int32), np.ones((6, 1), np.float32), where)
    assert not rows.any()
    with pytest.raises(TypeError):
        compiled.note(rows, np.array([0, 0], np.int32), np.ones((6, 1), np.float32), (2, 8, -1, -1, 6, -1))


HAMMER = """
import sys
from pathlib import Path
import numpy as np
from edgesem.codec import compiled_context
from edgesem.codec.compiled_context import CompiledKnown, compile_networks
from edgesem.bundle.bundle import KEY, REFERENCE, Bundle
from edgesem.codec.rounding import Rounder
from edgesem.entropy.kernel import Kernel
from edgesem.entropy.schedule import CHANNELS, PASSES, CodedPositions

loops = Kernel(Path(sys.argv[1]))
compiled_context.load = lambda: loops
folder, tables, errors = Bundle.open().folder, Bundle.open().tables, 0
for names in (KEY, REFERENCE):
    networks = compile_networks([folder / name for name in names])
    for seed in range(120):
        random = np.random.default_rng(seed)
        loops.way = seed % loops.ways
        shape = tuple(random.integers(1, 9, 2))
        reference = None if names is KEY else random.integers(-2047, 2048, (CHANNELS, *shape)).astype(np.float32)
        had = None if names is KEY else np.full(shape, 90)
        positions = CodedPositions(shape, random.random(shape) < 0.3)
        known = CompiledKnown(networks, random.integers(0, 256, shape), reference, had, positions)
        rounder = Rounder(random.normal(0, 9, (CHANNELS, *shape)), np.ones((CHANNELS, 1, 1)), tables, positions, 4,
                          inter=had is not None)
        for index in range(len(PASSES)):
            network, places = networks.passes[index], known._places(index)
            plan = network.plan_for(shape[1], known._length).copy()
            wanted, least = rounder.wanted(index), rounder.least(index)
            if seed % 3:
                plan[random.integers(plan.size)] += random.integers(-9, 9) * 10 ** random.integers(0, 9)
            try:
                found = loops.expect(known._rows, places, (plan, network.weights, network.rest), 6, -1)
                known.add(index, np.zeros((PASSES[index].stop - PASSES[index].start, places.size), np.float32))
                loops.decide(known._rows, places, (plan, network.weights, network.rest), -1, wanted, tables, least,
                             known._where(index))
            except IndexError:
                errors += 1
print("errors", errors)
"""


def test_damaged_plans_do_nothing_undefined(tmp_path):
    assert int(run_sanitized(HAMMER, tmp_path).split()[1]) > 100
