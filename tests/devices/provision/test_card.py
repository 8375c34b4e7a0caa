"""Cards: seeds that cloud-init takes, a real FAT partition filled without root, and disks that are left alone."""

import base64
import bz2
import fcntl
import gzip
import json
import lzma
import os
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.board import Board
from devices.deployment.release import Release
from devices.provision import card
from devices.provision.image import BootPartition, ImageFacts, copy_image, partitions
from devices.provision.seed import cloud_init, firstrun
from devices.provision.setup import Setup
from devices.provision.template import template
from devices.shell import CommandResult, Shell
from edgesem.cli import main as cli
from edgesem.errors import EnvironmentMissing, InputError, UsageError
from tests.support.board_stand import pip_wheel, wheel
from tests.support.releases import prepared_cache

PI = Board.load("raspberry-pi-5")
KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32)).decode() + " me@here"
CONFIG = f"""
hostname = "cam-1"
timezone = "Europe/Zurich"

[user]
name = "edge"
ssh_keys = ["{KEY}"]

[wifi]
ssid = '''Bar: "5 o'clock" #1'''
password = 'p@ss: "word" #x'
country = "CH"

[send.stream]
site = "harbour"
fps = 0.5

[send.broker]
host = "broker.example.org"
port = 8883
tls = true
ca_file = "/etc/edgesem/ca.pem"

[files]
"ca.pem" = "my-ca.pem"
"""
needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("mcopy", "mkfs.vfat", "sfdisk"))), reason="needs mtools, dosfstools and fdisk"
)


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "my-ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    path = tmp_path / "cam.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def setup(config) -> Setup:
    return Setup.read(config, PI)


def test_the_seed_says_what_the_file_says(setup):
    files = cloud_init(setup, "/boot/firmware")
    assert files["user-data"].startswith(b"#cloud-config\n")
    user_data = json.loads(files["user-data"].partition(b"\n")[2])
    assert user_data["user"]["ssh_authorized_keys"] == [KEY]
    assert "users" not in user_data
    assert "enable_ssh" not in user_data
    written = {e["path"]: base64.b64decode(e["content"]).decode() for e in user_data["write_files"]}
    send = read_toml_text(written["/etc/edgesem/send.toml"])
    assert send["broker"]["host"] == "broker.example.org"
    assert send["source"]["uri"] == PI.camera.source  # what the board's file knows
    assert send["stream"] == {"site": "harbour", "fps": 0.5, "threads": PI.run.threads}
    assert written["/etc/edgesem/ca.pem"].startswith("-----BEGIN")
    network = json.loads(files["network-config"])["network"]["wifis"]["wlan0"]
    assert network["access-points"] == {setup.wifi.ssid: {"password": 'p@ss: "word" #x'}}
    assert network["regulatory-domain"] == "CH"


def test_an_installation_that_a_power_cut_ended_begins_again_at_the_next_boot(setup):
    """cloud-init notes that runcmd was done before it runs it, so what takes minutes must not stand there."""
    user_data = json.loads(cloud_init(setup, "/boot/firmware")["user-data"].partition(b"\n")[2])
    (unit,) = [entry for entry in user_data["write_files"] if entry["path"].startswith("/etc/systemd/system/")]
    assert unit["path"] == "/etc/systemd/system/edgesem-firstboot.service"
    text = base64.b64decode(unit["content"]).decode()
    assert "ExecStart=/usr/bin/python3 /boot/firmware/edgesem/agent.py take /boot/firmware/edgesem\n" in text
    assert "ExecStartPost=/bin/systemctl disable edgesem-firstboot.service\n" in text  # after success alone
    assert not any("agent.py" in word for command in user_data["runcmd"] for word in command)
    commands = user_data["runcmd"]
    enabled, begun = (["systemctl", verb, "edgesem-firstboot.service"] for verb in ("enable", "start"))
    assert commands.index(enabled) < commands.index(["sync"]) < commands.index(begun) == len(commands) - 1
    assert commands.index(["systemctl", "enable", "ssh"]) < commands.index(["sync"])


def test_who_has_a_password_and_no_key_can_log_in_by_ssh(setup):
    only_password = replace(setup, user=replace(setup.user, ssh_keys=(), password_hash="$6$x"))
    for one, expected in ((setup, False), (only_password, True)):
        assert json.loads(cloud_init(one, "/b")["user-data"].partition(b"\n")[2])["ssh_pwauth"] is expected


def yaml_scalars(text: str) -> dict:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which cloud-init reads its files with")
    return yaml.safe_load(text)


def test_a_setup_that_is_not_there_is_told_with_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"cam\.toml does not exist: `edgesem device card --template > .*cam\.toml`"):
        Setup.read(tmp_path / "cam.toml", PI)


@pytest.mark.parametrize(
    "odd", ["next\x85line", "line\u2028separator", "rub\x7fout", "\ufeffmark", "Café 📷", "a\u200bb"]
)
def test_a_network_of_any_name_is_the_same_in_json_and_in_yaml(setup, odd):
    named = replace(setup, wifi=replace(setup.wifi, ssid=odd, password=f"secret{odd}"))
    seed = cloud_init(named, "/boot/firmware")["network-config"]
    assert not set(seed.decode()) & set("\x7f\x85\u2028\u2029\ufeff")
    for read in (json.loads, yaml_scalars):
        points = read(seed.decode())["network"]["wifis"]["wlan0"]["access-points"]
        assert points == {odd: {"password": f"secret{odd}"}}


def test_every_card_is_a_new_instance(setup):
    ids = {json.loads(cloud_init(setup, "/b")["meta-data"])["instance-id"] for _ in range(3)}
    assert len(ids) == 3


def read_toml_text(text: str) -> dict:
    try:
        import tomllib
    except ImportError:
        import tomli as tomllib
    return tomllib.loads(text)


def test_cloud_init_itself_accepts_the_seed(setup, tmp_path):
    if shutil.which("cloud-init") is None:
        pytest.skip("needs cloud-init")
    path = tmp_path / "user-data"
    path.write_bytes(cloud_init(setup, "/boot/firmware")["user-data"])
    run = subprocess.run(["cloud-init", "schema", "--config-file", str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('hostname = "cam-1"', 'hostname = "Cam_1"', "hostname"),
        ('name = "edge"', 'name = "root"', "system itself"),
        ('name = "edge"', 'name = "daemon"', "system itself"),
        ('name = "edge"', 'name = "video"', "system itself"),  # a group: useradd refuses its name
        (KEY, "ssh-ed25519 AAAA", "no public key"),
        (f'"{KEY}"', "", "nobody could log in"),
        ('country = "CH"', "", "country"),
        ('country = "CH"', 'country = "UK"', "GB is meant"),
        ('country = "CH"', 'country = "ZZ"', "country"),
        ("Europe/Zurich", "Europe/Nowhere", "not known to every system"),
        ("Europe/Zurich", "US/Eastern", r"did you mean America/New_York\?"),  # Debian 13 has no such name
        ("fps = 0.5", 'fps = "two"', r"\[send\] .*stream.fps must be a number"),
        ("fps = 0.5", "fbs = 0.5", r"unknown key .?stream\.fbs.?: did you mean stream\.fps"),
        ("fps = 0.5", "fps = 900", "must be 0.001 to 60"),
        ('host = "broker.example.org"', "", "host is missing: name the broker"),
        ('"/etc/edgesem/ca.pem"', '"my-ca.pem"', "must begin with /"),
        ("[send.stream]", "[receive.wraw]", r"\[receive\] unknown key .?wraw"),
        ("""password = 'p@ss: "word" #x'""", 'password = "short"', "8 to 63"),
        ('"ca.pem" = "my-ca.pem"', "", "named, but not brought"),
        ('"ca.pem" = "my-ca.pem"', '"../x" = "my-ca.pem"', "no name for a file"),
        ("[user]", "[usr]", "unknown key .?usr.?: did you mean user"),
        ("timezone =", "timezne =", "did you mean timezone"),
        ("[send.", "[sned.", "sned"),
        ('"Europe/Zurich"', '"; rm -rf /"', "timezone"),
    ],
)
def test_what_the_board_would_stumble_on_is_refused_here(config, old, new, complaint):
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    with pytest.raises((UsageError, InputError), match=complaint):
        Setup.read(config, PI)


def test_a_private_key_never_goes_onto_a_card(config, tmp_path):
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    config.write_text(config.read_text().replace(KEY, "id"))
    with pytest.raises(UsageError, match="private key"):
        Setup.read(config, PI)


def test_the_script_for_older_images_is_shell_and_holds_everything(setup, tmp_path):
    script = firstrun(setup, "/boot/firmware")
    path = tmp_path / "firstrun.sh"
    path.write_bytes(script)
    subprocess.run(["sh", "-n", str(path)], check=True)
    text = script.decode()
    assert "set_wlan 'Bar: " in text
    assert "systemctl enable edgesem-firstboot.service" in text
    # A power cut between the two must not leave a kernel that runs a script which is gone.
    assert text.index("sed -i 's| systemd.run") < text.index("rm -f /boot/firmware/firstrun.sh")
    # What it writes is what was meant, whatever the shell thinks of quotes.
    for path_there, path_here in (("/etc/", "etc/"), ("/usr/lib/", "bin/"), ("/boot/", "boot/")):
        text = text.replace(path_there, f"{tmp_path}/{path_here}")
    for name in ("sudoers.d", "systemd/system", "edgesem"):
        (tmp_path / "etc" / name).mkdir(parents=True)
    path.write_text(text)
    subprocess.run(["sh", str(path)], check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"})
    written = (tmp_path / "etc/edgesem/send.toml").read_bytes()
    assert written == setup.etc["send.toml"]


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_as_a_setup_are_refused_in_words(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "noise.toml"
    path.write_bytes(data)
    with pytest.raises((UsageError, InputError)):
        Setup.read(path, PI)


# The image


def image(folder: Path, fat_mb: int = 48, files: dict[str, bytes] | None = None) -> Path:
    """An image of a disk: a FAT partition of that size, then one of Linux."""
    boot, disk = folder / "boot.fat", folder / "os.img"
    boot.write_bytes(b"")
    subprocess.run(["truncate", "-s", f"{fat_mb}M", boot], check=True)
    subprocess.run(["mkfs.vfat", "-n", "bootfs", boot], check=True, capture_output=True)
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data)
        subprocess.run(["mcopy", "-i", boot, folder / name, "::/"], check=True)
    table = f"label: dos\n2048,{fat_mb * 2048},c\n,2048,83\n".encode()
    subprocess.run(["truncate", "-s", f"{fat_mb + 4}M", disk], check=True)
    subprocess.run(["sfdisk", "-q", disk], input=table, check=True)
    with disk.open("r+b") as file:
        file.seek(2048 * 512)
        file.write(boot.read_bytes())
    return disk


@pytest.fixture
def release(tmp_path) -> Release:
    return Release.make([wheel(tmp_path / "w"), pip_wheel()], None, PI)


@needs_tools
def test_seed_and_release_lie_on_the_boot_partition(tmp_path, setup, release):
    cmdline = b"console=tty1 root=PARTUUID=1 rootwait ds=nocloud;i=rpi-imager-1 cfg80211.ieee80211_regdom=US\n"
    disk = image(tmp_path, files={"meta-data": b"", "cmdline.txt": cmdline})
    boot = BootPartition.find(Shell(), disk)
    assert card.init_kind(boot) == "cloud-init"
    card.fill(boot, setup, release, "cloud-init")
    meta = json.loads(boot.read("meta-data"))
    words = boot.read("cmdline.txt").decode().split()
    assert f"ds=nocloud;i={meta['instance-id']}" in words  # the id of a former life would win over meta-data
    assert sum(word.startswith("ds=") for word in words) == 1
    assert "cfg80211.ieee80211_regdom=CH" in words
    assert "root=PARTUUID=1" in words
    assert json.loads(boot.read("edgesem/manifest.json"))["version"] == release.version
    for digest, content in release.blobs().items():
        expected = content if isinstance(content, bytes) else content.read_bytes()
        assert boot.read(f"edgesem/blobs/{digest}") == expected
    subprocess.run(["fsck.vfat", "-n", dump(disk, tmp_path)], check=True, capture_output=True)


def dump(disk: Path, folder: Path) -> Path:
    part = folder / "part.fat"
    part.write_bytes(disk.read_bytes()[2048 * 512 : -4 * 2**20 + 2048 * 512])
    return part


@needs_tools
def test_an_image_before_cloud_init_gets_the_script(tmp_path, setup, release):
    disk = image(tmp_path, files={"cmdline.txt": b"root=PARTUUID=1 rootwait\n"})
    boot = BootPartition.find(Shell(), disk)
    assert card.init_kind(boot) == "firstrun"
    assert card.fill(boot, setup, release, "firstrun") == ["cmdline.txt", "firstrun.sh"]
    line = boot.read("cmdline.txt").decode()
    assert "systemd.run=/boot/firmware/firstrun.sh" in line
    assert line.count("\n") == 1


@needs_tools
def test_a_boot_partition_that_is_too_small_is_said_before_it_is_touched(tmp_path, setup, release):
    disk = image(tmp_path, fat_mb=3)
    before = disk.read_bytes()
    with pytest.raises(InputError, match=r"MB free, the release needs"):
        card.fill(BootPartition.find(Shell(), disk), setup, release, "cloud-init")
    assert disk.read_bytes() == before


def test_an_image_is_unpacked_with_its_holes(tmp_path):
    data = bytes(9 << 20) + b"end" + bytes(5 << 20)
    (tmp_path / "a.img.xz").write_bytes(lzma.compress(data, preset=0))
    copy_image(tmp_path / "a.img.xz", tmp_path / "b.img")
    assert (tmp_path / "b.img").read_bytes() == data
    assert (tmp_path / "b.img").stat().st_blocks * 512 < len(data) // 2
    (tmp_path / "c.img.xz").write_bytes(lzma.compress(data, preset=0)[:200])
    with pytest.raises(InputError, match="damaged"):
        copy_image(tmp_path / "c.img.xz", tmp_path / "d.img")
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(("suffix", "module"), [(".xz", lzma), (".gz", gzip), (".bz2", bz2)])
@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_a_download_with_a_wrong_byte_is_refused_in_words(tmp_path, suffix, module, at):
    data = bytearray(module.compress(bytes(random.Random(1).choices(b"abcdefgh", k=5 << 16))))
    data[min(int(at * len(data)), len(data) - 6)] ^= 0xFF
    packed = tmp_path / f"a.img{suffix}"
    packed.write_bytes(data)
    with pytest.raises(InputError, match="is damaged: download it again"):
        copy_image(packed, tmp_path / "b.img")
    assert os.listdir(tmp_path) == [packed.name]


# The disk, by what lsblk said on real machines; recorded, not run on them

CARD = {"path": "/dev/sdb", "size": 31_914_983_424, "type": "disk", "rm": True, "ro": False, "tran": "usb",
        "model": "STORAGE DEVICE", "mountpoints": [None],
        "children": [{"path": "/dev/sdb1", "type": "part", "mountpoints": [None]}]}  # fmt: skip


def lsblk(**changes):
    def answer(argv, stdin, timeout_s):
        return CommandResult(0, json.dumps({"blockdevices": [{**CARD, **changes}]}).encode())

    return Shell(execute=answer)


def child(kind="part", *mounts):
    return [{"path": "/dev/sdb1", "type": kind, "mountpoints": list(mounts) or [None]}]


def test_a_card_in_a_reader_is_taken():
    assert card.target_disk(lsblk(), "/dev/sdb") == card.Disk("/dev/sdb", 31_914_983_424, "STORAGE DEVICE", "usb")
    inner = lsblk(path="/dev/mmcblk0", tran=None, rm=False)
    assert card.target_disk(inner, "/dev/mmcblk0").kind == "mmc"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"children": child("part", "/media/me/bootfs")}, "in use"),
        ({"children": child("part", "/boot", "/")}, "in use"),
        ({"children": child("part", "[SWAP]")}, "in use"),
        ({"children": [{**child()[0], "children": child("crypt", "/home")}]}, "in use"),
        ({"children": child("lvm")}, "belongs to"),
        ({"children": child("raid1")}, "belongs to"),
        ({"type": "part"}, "whole disk"),
        ({"type": "loop"}, "whole disk"),
        ({"rm": False, "tran": "nvme"}, "no card"),
        ({"rm": False, "tran": "sata"}, "no card"),
        ({"ro": True}, "write-protected"),
        ({"size": 0}, "no card in it"),
    ],
)
def test_a_disk_that_might_be_somebodys_is_refused(changes, complaint):
    with pytest.raises(UsageError, match=complaint):
        card.target_disk(lsblk(**changes), "/dev/sdb")


def test_the_disk_is_looked_at_again_before_it_is_written(tmp_path):
    (tmp_path / "x.img").write_bytes(b"x")
    disk = card.Disk("/dev/sdb", 10, "", "usb")
    mounted = lsblk(children=child("part", "/media/me"))
    with pytest.raises(UsageError, match="in use"):
        card.write_card(mounted, tmp_path / "x.img", disk, "bmaptool")
    assert mounted.record == []
    calm = lsblk()
    card.write_card(calm, tmp_path / "x.img", disk, "rpi-imager")
    assert calm.record == [("rpi-imager", "--cli", "--disable-eject", str(tmp_path / "x.img"), "/dev/sdb")]
    with pytest.raises(UsageError, match="larger card"):
        card.write_card(calm, tmp_path / "x.img", card.Disk("/dev/sdb", 0, "", "usb"), "bmaptool")


@pytest.mark.parametrize("at", [None, 3, 9 << 20, (14 << 20) - 1])
def test_what_is_on_the_card_is_read_back(tmp_path, at):
    """A worn or counterfeit card takes every write; what is empty in the image is not written, and may be anything."""
    data = b"boot" + bytes((9 << 20) - 4) + b"end" + bytes((5 << 20) - 4) + b"."
    (tmp_path / "whole.img").write_bytes(data)
    copy_image(tmp_path / "whole.img", tmp_path / "x.img")  # with holes
    written = bytearray(data) + b"beyond"
    written[6 << 20] = 1
    if at is not None:
        written[at] ^= 1
    (tmp_path / "sdb").write_bytes(written)

    def execute(argv, stdin, timeout_s):
        return lsblk(path=str(tmp_path / "sdb")).execute(argv, stdin, timeout_s)

    shell, disk = Shell(execute=execute), card.Disk(str(tmp_path / "sdb"), len(written), "", "usb")
    if at is None:
        card.write_card(shell, tmp_path / "x.img", disk, "bmaptool")
        return
    with pytest.raises(EnvironmentMissing, match="take another card"):
        card.write_card(shell, tmp_path / "x.img", disk, "bmaptool")


def test_nothing_mounts_the_card_before_it_is_read_back(tmp_path):
    """udev passes over a disk that is locked, so that no desktop mounts it and writes to it between."""
    for name in ("x.img", "sdb"):
        (tmp_path / name).write_bytes(b"boot")
    disk, locked = card.Disk(str(tmp_path / "sdb"), 4, "", "usb"), []

    def execute(argv, stdin, timeout_s):
        if argv[1] == "copy":
            with (tmp_path / "sdb").open("rb") as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
            locked.append(argv[-1])
        return lsblk(path=disk.path).execute(argv, stdin, timeout_s)

    card.write_card(Shell(execute=execute), tmp_path / "x.img", disk, "bmaptool")
    assert locked == [disk.path]
    (tmp_path / "sdb").unlink()
    with pytest.raises(EnvironmentMissing, match="cannot be read back"):
        card.write_card(Shell(execute=execute), tmp_path / "x.img", disk, "bmaptool")


# The command


@needs_tools
def test_the_command_plans_first_and_makes_the_card_when_told(tmp_path, config, capsys):
    disk = with_system(tmp_path, image(tmp_path, files={"meta-data": b""}), 'ID=debian\nVERSION_ID="12"')
    packed = tmp_path / "os.img.xz"
    packed.write_bytes(lzma.compress(disk.read_bytes(), preset=0))
    args = ["device", "card", "--board", "raspberry-pi-5", "--config", str(config)]
    args += ["--out", str(tmp_path / "card.img"), "--json"]
    for source in (disk, packed):
        assert cli.main([*args, "--image", str(source)]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["written"] is False
        assert (plan["system"], plan["python"]) == ("debian 12", "3.11")
        assert 40 << 20 < plan["boot_free_bytes"] < 48 << 20
        assert not (tmp_path / "card.img").exists()
        assert not list(tmp_path.glob(".edgesem-card-*"))
    assert cli.main([*args, "--image", str(disk), "--write", "/dev/null"]) == 1  # no block device
    capsys.readouterr()
    assert cli.main(["device", "card", "--board", "raspberry-pi-5", "--config", str(config), "--image", "x"]) == 2


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--out", "{image}"), "is the image itself"),
        (("--out", "{folder}/link.img"), "is the image itself"),
        (("--out", "{folder}/nowhere/card.img"), "there is no folder"),
        (("--out", "{folder}/card.bin"), "name it *.img"),
        (("--out", "{folder}/card.img", "--board", "jetson-orin-nano"), "edgesem device jetson prepare"),
        (("--out", "{folder}/card.img", "--board", "jetson-nano"), "edgesem device deploy"),
        (("--out", "{folder}/card.img", "--board", "generic-x86"), "edgesem device deploy"),
        (("--out", "{folder}/card.img", "--config", "{folder}/nothing.toml"), "does not exist: `edgesem device card"),
    ],
)
def test_a_card_that_can_not_be_meant_is_refused_before_anything_is_read(tmp_path, config, capsys, more, complaint):
    disk = tmp_path / "os.img"
    disk.write_bytes(b"as it was")
    (tmp_path / "link.img").symlink_to(disk)
    args = ["device", "card", "--board", "raspberry-pi-5", "--config", str(config), "--image", str(disk)]
    assert cli.main([*args, *(word.format(image=disk, folder=tmp_path) for word in more), "--yes"]) in (1, 2)
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert disk.read_bytes() == b"as it was"


@needs_tools
@pytest.mark.parametrize("yes", [(), ("--yes",)])
def test_a_text_file_is_no_image_not_even_in_a_plan(tmp_path, config, capsys, yes):
    (tmp_path / "os.img").write_text("Download the image from https://www.raspberrypi.com/software/\n" * 40)
    args = ["device", "card", "--board", "raspberry-pi-5", "--config", str(config), "--image", str(tmp_path / "os.img")]
    assert cli.main([*args, "--out", str(tmp_path / "card.img"), *yes]) == 1
    assert "no image of a disk" in capsys.readouterr().err
    assert not (tmp_path / "card.img").exists()


@pytest.mark.parametrize("name", ["raspberry-pi-5", "generic-aarch64", "jetson-orin-nano"])
def test_the_template_is_a_setup_once_it_is_filled_in(tmp_path, capsys, name):
    assert cli.main(["device", "card", "--template", "--board", name]) == 0
    text = capsys.readouterr().out
    assert text == template(Board.load(name))
    path = tmp_path / "cam.toml"
    path.write_text(text)
    for blank, filled in (("<id_ed25519.pub>", KEY), ("<broker.example.org>", "broker.example.org")):
        with pytest.raises(UsageError, match=f"is '{blank}' as in the template"):
            Setup.read(path, Board.load(name))
        path.write_text(path.read_text().replace(blank, filled))
    Setup.read(path, Board.load(name))
    for file in ("wifi.txt", "mqtt.password", "ca.pem", "seal.key"):
        (tmp_path / file).write_text("twelve letters")
    (tmp_path / "id_ed25519.pub").write_text(KEY)
    lines = [line.removeprefix("# ") if "=" in line or line.startswith("# [") else line for line in text.splitlines()]
    filled = "\n".join(lines).replace('"<', '"').replace('>"', '"').replace("$6$...", f"$6$salt${'a' * 86}")
    path.write_text(filled.replace("port = 1883", "port = 8883"))  # every line that is commented out is right too
    setup = Setup.read(path, Board.load(name))
    assert setup.wifi.country == "CH"
    sent = read_toml_text(setup.etc["send.toml"].decode())
    assert sent["source"]["uri"] == Board.load(name).camera.source
    assert sent["seal"]["key_file"] == "/etc/edgesem/seal.key"


@needs_tools
@pytest.mark.parametrize(("system", "python"), [('ID=debian\nVERSION_ID="12"', "3.11"), ("ID=debian", "")])
def test_the_python_of_the_system_is_read_out_of_the_image(tmp_path, system, python):
    if not all(shutil.which(name, path="/usr/sbin:/sbin:/usr/bin") for name in ("debugfs", "mkfs.ext4")):
        pytest.skip("needs e2fsprogs")
    disk = with_system(tmp_path, image(tmp_path), system)
    assert ImageFacts.read(Shell(), disk).python == python


def with_system(folder: Path, disk: Path, release: str) -> Path:
    """The image with a file system in its second partition that says of itself what `release` says."""
    (folder / "root/usr/lib").mkdir(parents=True)
    (folder / "root/usr/lib/os-release").write_text(release + "\n")
    part = folder / "root.ext4"
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-d", folder / "root", part, "1M"], check=True, capture_output=True)
    (start,) = partitions(Shell(), disk, ("83",))
    with disk.open("r+b") as file:
        file.seek(start)
        file.write(part.read_bytes())
    return disk


@needs_tools
def test_a_32_bit_system_is_refused_whatever_python_is_named(tmp_path, config, capsys):
    disk = with_system(tmp_path, image(tmp_path), 'ID=raspbian\nVERSION_ID="12"')
    args = ["device", "card", "--board", "raspberry-pi-4", "--config", str(config), "--image", str(disk)]
    for more in ([], ["--yes"]):
        assert cli.main([*args, "--out", str(tmp_path / "card.img"), "--python", "3.11", *more]) != 0
        assert "32-bit" in capsys.readouterr().err
    assert not (tmp_path / "card.img").exists()


@needs_tools
def test_from_an_image_and_one_file_to_a_card(tmp_path, config, capsys):
    disk = image(tmp_path, files={"cmdline.txt": b"console=tty1 rootwait\n"})
    own = wheel(tmp_path / "w")
    cache = prepared_cache(tmp_path / "cache", "aarch64-3.13-2.41", own)
    args = ["device", "card", "--board", "raspberry-pi-4", "--config", str(config), "--image", str(disk), "--json"]
    args += ["--out", str(tmp_path / "card.img"), "--wheel", str(own), "--cache", str(cache), "--yes"]
    assert cli.main(args) == 2  # nobody knows which Python to bring wheels for
    assert "say --python" in capsys.readouterr().err
    with_system(tmp_path, disk, 'ID=debian\nVERSION_ID="13"')
    assert cli.main([*args, "--python", "3.11"]) == 2
    assert "has Python 3.13" in capsys.readouterr().err
    assert not (tmp_path / "card.img").exists()
    assert cli.main(args) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["python"], told["init"], told["seed"]) == ("3.13", "firstrun", ["cmdline.txt", "firstrun.sh"])
    assert (tmp_path / "card.img").stat().st_mode & 0o077 == 0  # keys and passwords are in it
    made = BootPartition.find(Shell(), tmp_path / "card.img")
    assert json.loads(made.read("edgesem/manifest.json"))["version"] == told["release"]
    assert b"systemd.run=/boot/firmware/firstrun.sh" in made.read("cmdline.txt")
    assert sorted(path.name for path in tmp_path.glob(".edgesem-card-*")) == []
