"""Digest of the program: any changed module changes it, so that no figure of older code is taken for one of now."""

from edgesem.sources import program_digest


def test_every_change_of_the_code_changes_the_digest(tmp_path):
    (tmp_path / "edgesem" / "room").mkdir(parents=True)
    found = set()
    for name, text in (
        ("a.py", "a = 1\nb = 1\n"), ("a.py", "a = 2\nb = 1\n"), ("room/b.py", "b = 1\n"), ("room/b.py", "b = 2\n"),
        ("a.py", "a = 2\n"), ("room/b.py", "b = 1\nb = 2\n"),  # a line moved to the next file
        ("room/kernel.c", "int a;\n"), ("room/kernel.h", "int b;\n"), ("room/kernel.h", "int c;\n"),
    ):  # fmt: skip
        (tmp_path / "edgesem" / name).write_text(text)
        found.add(program_digest.__wrapped__(root=tmp_path))
    assert len(found) == 9


def test_the_digest_is_of_the_package_and_stays():
    assert program_digest() == program_digest.__wrapped__()
