import pytest

from controlplane.settings.files import file_problem, first_line


def test_a_secret_is_one_line(tmp_path):
    path = tmp_path / "secret"
    path.write_text(" hush \n")
    assert file_problem(str(path)) == ""
    assert first_line(str(path)) == "hush"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "one line"), (b"one\ntwo\n", "one line"), (b"\xff\xfe", "cannot be read: no text")],
)
def test_anything_else_is_told_without_its_content(tmp_path, content, told):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert told in file_problem(str(path))
    assert "two" not in file_problem(str(path))
