"""Digest of the code: any changed module changes it, so that no figure of older code is taken for one of now."""

from edgesem.sources import sources_digest


def test_every_change_of_the_code_changes_the_digest(tmp_path):
    (tmp_path / "a.py").write_text("a = 1\n")
    (tmp_path / "room").mkdir()
    found = {sources_digest(tmp_path)}
    for name, text in (("a.py", "a = 2\n"), ("room/b.py", "b = 1\n"), ("room/b.py", "b = 2\n")):
        (tmp_path / name).write_text(text)
        found.add(sources_digest(tmp_path))
    assert len(found) == 4
    assert sources_digest() == sources_digest()
