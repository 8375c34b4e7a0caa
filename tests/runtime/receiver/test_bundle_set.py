"""Several bundles at one receiver: each packet is drawn with its own, and what cannot be told apart is refused."""

import json

import numpy as np
import pytest

import edgesem
from edgesem.cli.main import main
from edgesem.errors import BundleError, UsageError
from edgesem.semantics.embedding import Labels
from runtime.receiver.archive import Archive
from runtime.receiver.bundle_set import BundleSet
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.synthesis import SynthesisOptions
from tests.support.bundles import another_bundle
from tests.support.publishing import codec, frame


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return another_bundle(tmp_path_factory.mktemp("other"))


def test_packets_of_two_bundles_are_drawn_each_with_its_own(other):
    bundles = BundleSet([None, other])
    mine = frame(1)
    with edgesem.load(other) as theirs:
        assert bundles.ids == (codec().bundle.id, theirs.bundle.id)
        packet = theirs.pack(theirs.analyze(codec().decode(mine.to_bytes())), budget_bytes=1200)
        expected = theirs.decode(packet.to_bytes())
    with DecoderProcess(bundles.folders) as decoder:
        assert np.array_equal(decoder.decode(mine, SynthesisOptions())[0], codec().decode(mine.to_bytes()))
        assert np.array_equal(decoder.decode(packet, SynthesisOptions())[0], expected)


def test_two_bundles_with_one_id_are_refused_by_name(other):
    with pytest.raises(UsageError, match="have one id"):
        BundleSet([other, other])
    with pytest.raises(BundleError, match="no bundle"):
        BundleSet([None, other / "nothing"])


def test_an_archive_of_two_bundles_is_searched_and_drawn_with_both(other, tmp_path, capsys):
    with edgesem.load(other) as theirs, Archive(tmp_path) as archive:
        packet = theirs.pack(theirs.analyze(codec().decode(frame(1).to_bytes())), budget_bytes=1200)
        archive.add("home/old/main", frame(1), 1000.0)
        archive.add("home/new/main", packet, 1001.0)
    ask = [
        "search",
        str(Labels.of(codec().bundle).names[0]),
        "--archive",
        str(tmp_path),
        "--out",
        str(tmp_path / "found"),
    ]
    for bundles, drawn in (([], 1), (["--bundle", "default", "--bundle", str(other)], 2)):
        assert main([*ask, *bundles, "--json"]) == 0
        hits = json.loads(capsys.readouterr().out)["hits"]
        assert sum("file" in hit for hit in hits) == drawn
