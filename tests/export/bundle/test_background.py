"""Background pictures: keyframes that are predicted from them, and what is refused."""

import json
import os
import shutil
import tempfile
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra export")

import edgesem
from edgesem.bundle.bundle import BACKGROUNDS, MAX_BACKGROUNDS, Bundle
from edgesem.cli import main as cli
from edgesem.codec.codec import Codec
from edgesem.codec.options import PackOptions
from edgesem.errors import BundleError, InputError, PacketError, UsageError
from edgesem.files import find_pictures, read_picture, write_picture
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, SideInformation
from export.bundle.background import add_background, camera_frames
from export.bundle.folder import seal
from export.bundle.verify import golden
from export.data.clips import background_of
from runtime.capture.frame import PHOTOS
from tests.independent.latent import Bundle as IndependentBundle
from tests.independent.packet import read_packet
from tests.independent.reader import Frame, FrameDecoder
from tests.support.videos import write_video

PLACE = np.ascontiguousarray(read_picture(find_pictures(PHOTOS)[0])[:160, :208])


def ignore(stage, done):
    pass


def frame_of(number: int) -> np.ndarray:
    """The place with a block that stands elsewhere in each frame, and with noise."""
    noise = np.random.default_rng(number).normal(0, 2, PLACE.shape)
    frame = (PLACE + noise).clip(0, 255).astype(np.uint8)
    left = 10 + 30 * (number % 6)
    frame[100:130, left : left + 24] = (200, 40, 40)
    return frame


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    for number in range(6):
        write_picture(frame_of(number), folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def made(frames, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "mine"
    add_background(Bundle.open(), camera_frames(frames), out, ignore)
    return out


@pytest.fixture(scope="module")
def codec(made):
    with edgesem.load(made) as codec:
        yield codec


def test_what_passes_is_not_in_the_picture(frames):
    background = background_of(camera_frames(frames)).astype(int)
    passes = np.s_[100:130, 40:64]
    assert np.abs(background - PLACE)[passes].mean() < 3
    assert np.abs(frame_of(7).astype(int) - PLACE)[passes].mean() > 50


def test_keyframes_of_the_place_are_smaller_and_need_no_other_packet(codec):
    frame = frame_of(7)
    latent = codec.analyze(frame)
    packet, decoded = codec.pack_decoded(latent, quality=0.3)
    alone = codec.pack(latent, quality=0.3, options=PackOptions(background=False))
    assert packet.side_info.background == Reference(0, 4)
    assert packet.side_info.reference is None
    assert packet.size_bytes < 0.7 * alone.size_bytes
    again = codec.unpack(Packet.from_bytes(packet.to_bytes()))
    assert np.array_equal(again.values, decoded.values)
    within = codec.pack(latent, budget_bytes=packet.size_bytes)
    assert within.size_bytes <= packet.size_bytes
    for layers in range(1, 4):
        assert codec.decode(packet.to_bytes(), layers=layers).shape == frame.shape


def test_an_independent_reader_decodes_the_same(made, codec):
    packet, decoded = codec.pack_decoded(codec.analyze(frame_of(8)), quality=0.5)
    bundle = IndependentBundle(made)
    bundle.check_files()
    assert bundle.id() == codec.bundle.id == packet.bundle_id != Bundle.open().id
    frame = Frame()
    frame.add(read_packet(packet.to_bytes(), bundle.id()))
    assert np.array_equal(FrameDecoder(bundle).decode(frame).latent, decoded.values)


def test_inter_frames_may_refer_to_such_a_keyframe(codec):
    _, key = codec.pack_decoded(codec.analyze(frame_of(1)), quality=0.3, options=PackOptions(frame=4))
    options = PackOptions(side_info=SideInformation(reference=Reference(4, 4)), reference=key)
    packet, decoded = codec.pack_decoded(codec.analyze(frame_of(2)), quality=0.3, options=options)
    assert packet.side_info.background is None
    assert np.array_equal(codec.unpack(packet, key).values, decoded.values)


def test_other_places_and_other_sizes_are_coded_as_before(codec, caplog):
    other = read_picture(find_pictures(PHOTOS)[3])[:160, :208]
    for frame in (other, frame_of(1)[:144]):
        latent = codec.analyze(np.ascontiguousarray(frame))
        packet = codec.pack(latent, quality=0.4)
        assert packet.side_info.background is None
        assert packet.to_bytes() == codec.pack(latent, quality=0.4, options=PackOptions(background=False)).to_bytes()
    assert caplog.messages == ["frames of 208x144 cannot use the background pictures of the bundle, which are 208x160"]


def test_the_most_alike_of_several_is_taken(made, tmp_path):
    night = [frame_of(number) // 3 for number in range(3)]
    add_background(Bundle.open(made), night, tmp_path / "both", ignore)
    with edgesem.load(tmp_path / "both") as codec:
        assert len(codec.backgrounds) == 2
        golden(codec.bundle)
        for frame, number in ((frame_of(9), 0), (frame_of(9) // 3, 1)):
            assert codec.pack(codec.analyze(frame), quality=0.3).side_info.background == Reference(number, 4)
        assert codec.bundle.plain_id == Bundle.open().id


def test_packets_of_what_is_not_there_are_damaged(codec):
    packet = codec.pack(codec.analyze(frame_of(1)), quality=0.3)
    for named in (Reference(1, 4), Reference(0, 3)):
        with pytest.raises(PacketError, match="background picture"):
            codec.unpack(replace(packet, side_info=replace(packet.side_info, background=named)))
    with pytest.raises(PacketError, match="no reference for a picture of this size"):
        codec.unpack(replace(packet, width=64))
    with pytest.raises(BundleError, match="was made with bundle"), edgesem.load() as plain:
        plain.unpack(packet)
    with pytest.raises(PacketError, match="a frame and to a background"):
        SideInformation(reference=Reference(0, 4), background=Reference(0, 4))


@pytest.mark.parametrize("what", ["noise", "inter frame", "another bundle", "base layer only"])
def test_a_bundle_with_a_bad_picture_says_so(made, codec, tmp_path, what):
    folder = tmp_path / "bad"
    shutil.copytree(made, folder)
    good = Packet.from_bytes((made / BACKGROUNDS[0]).read_bytes())
    bad = {
        "noise": b"noise",
        "inter frame": replace(good, side_info=SideInformation(reference=Reference(1, 4))).to_bytes(),
        "another bundle": replace(good, bundle_id=good.bundle_id ^ 1).to_bytes(),
        "base layer only": good.prefix(1).to_bytes(),
    }[what]
    (folder / BACKGROUNDS[0]).write_bytes(bad)
    bundle = seal(folder, codec.bundle.manifest)
    with Codec(bundle) as opened, pytest.raises(BundleError, match="is no background picture"):
        opened.pack(opened.analyze(frame_of(1)), quality=0.3)


def test_the_command_makes_a_bundle_and_says_what_it_gains(frames, tmp_path, capsys):
    clip = tmp_path / "camera.mp4"
    write_video(clip, [frame_of(number) for number in range(10, 16)], rate=5)
    argv = ["add-background", "--data", str(frames), "--out", str(tmp_path / "mine"), "--check", str(clip), "--json"]
    assert cli.main(argv) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["check"]["frames"] > 3
    assert said["check"]["keyframe_bytes_ms_ssim_percent"] < -20
    assert said["background"].pop("size_bytes") > 100
    assert said["background"] == {"number": 0, "width": 208, "height": 160, "frames": 6}
    assert cli.main(["info", str(tmp_path / "mine"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["bundle_id"], about["backgrounds"]) == (said["bundle_id"], 1)
    assert cli.main([*argv[:5], "--size", "104x80", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["background"]["width"] == 104
    assert cli.main([*argv[:5], "--size", "wide"]) == 2
    assert "--size takes" in capsys.readouterr().err


def test_what_cannot_be_made_is_refused(frames, made, tmp_path):
    with pytest.raises(InputError, match="at least 3"):
        add_background(Bundle.open(), camera_frames(frames)[:2], tmp_path / "mine", ignore)
    write_picture(PLACE[:100], tmp_path / "small.png")
    write_picture(PLACE, tmp_path / "large.png")
    with pytest.raises(InputError, match="208x100 and 208x160"):
        add_background(Bundle.open(), [*camera_frames(tmp_path), PLACE], tmp_path / "mine", ignore)
    with pytest.raises(InputError, match="is no bundle"):  # it would be lost
        add_background(Bundle.open(), camera_frames(frames), frames, ignore)
    assert len(camera_frames(frames)) == 6
    full = tmp_path / "full"
    shutil.copytree(made, full)
    for name in BACKGROUNDS[1:]:
        shutil.copy(made / BACKGROUNDS[0], full / name)
    bundle = seal(full, Bundle.open(made).manifest)
    assert len(bundle.backgrounds) == MAX_BACKGROUNDS
    with pytest.raises(UsageError, match="no room for more"):
        add_background(bundle, camera_frames(frames), tmp_path / "mine", ignore)
    assert not (tmp_path / "mine").exists()


def test_a_link_to_another_disk_stays_one(frames, tmp_path):
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK) or os.stat(memory).st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs two file systems")
    with tempfile.TemporaryDirectory(dir=memory) as store:
        (tmp_path / "mine").symlink_to(f"{store}/bundle")
        add_background(Bundle.open(), camera_frames(frames), tmp_path / "mine", ignore)
        assert (tmp_path / "mine").is_symlink()
        assert Bundle.open(f"{store}/bundle").backgrounds
        assert os.listdir(store) == ["bundle"]
