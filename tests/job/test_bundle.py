"""A folder as an archive: what goes with it, what not, and what can't."""

from __future__ import annotations

import os
import re
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest
from docker.utils.build import PatternMatcher
from hypothesis import given
from hypothesis import strategies as st

from keepfit.infra.jobs.bundle import BundleError, pack_bundle, unpack_bundle
from keepfit.infra.jobs.dockerignore import InvalidPattern, is_excluded, parse_patterns, walk

RULES = [
    ("*/temp*", "somedir/temporary.txt", True),
    ("*/temp*", "somedir/temp", True),
    ("*/temp*", "somedir/temp/deep/file", True),
    ("*/*/temp*", "somedir/subdir/temporary.txt", True),
    ("*/*/temp*", "somedir/temporary.txt", False),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    ("temp?", "deep/tempa", False),
    ("**/*.go", "main.go", True),
    ("**/*.go", "a/b/c/main.go", True),
    ("*.md\n!README.md", "README.md", False),
    ("*.md\n!README.md", "OTHER.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
    ("/foo/bar", "foo/bar", True),
    ("foo/bar/", "foo/bar", True),
    ("./foo//x/../bar", "foo/bar/file", True),
    ("# note", "# note", False),
    ("[a-c]x", "bx", True),
    ("[^a-c]x", "bx", False),
    ("[[x]y", "[y", True),
    ("[a||b]y", "|y", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("a.b", "axb", False),
    (".", "anything", False),
    ("*", "anything/below", True),
    ("**/data\n!data_small.txt", "data/x", True),
    ("docs/**\n!docs/a.md", "docs/deep/b.md", True),
    ("a**b", "ab", True),
    ("a**b", "a/deep/b", True),
    ("a**b", "axb", False),
    ("a**", "axb/c", True),
]


@pytest.mark.parametrize(("lines", "name", "out"), RULES)
def test_rules_of_docker(lines, name, out):
    """Those of its documentation, and where others have been mistaken."""
    assert is_excluded(name, parse_patterns(lines.splitlines())) is out


parts = st.lists(st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "?", "a?", ".a"]), min_size=1)
lines_of = st.builds("{}{}".format, st.sampled_from(["", "!", "/"]), parts.map("/".join))


@given(
    lines=st.lists(lines_of, min_size=1, max_size=3),
    name=st.lists(st.sampled_from(["a", "b", "ab", "abb", ".a", "c"]), min_size=1).map("/".join),
)
def test_as_docker_for_python_reads_them(lines, name):
    """But for `**`, of which that one sees no folder that is deeper than the pattern."""
    assert is_excluded(name, parse_patterns(lines)) == PatternMatcher(lines).matches(name)


names = st.text("ab.*?[]!#/\\ -", max_size=8)


@given(lines=st.lists(names, max_size=4), files=st.sets(names, max_size=6))
def test_any_file_is_read(tmp_path_factory, lines, files):
    """No line is an error, and what is walked is what is not left out."""
    folder = tmp_path_factory.mktemp("walked")
    made = set()
    for name in files:
        path = folder / name.strip("/ ").replace("//", "/")
        if re.search(r"(^|/)\.{0,2}(/|$)", str(path.relative_to(folder))) or path.exists():
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except (FileExistsError, NotADirectoryError):
            continue
        made.add(str(path.relative_to(folder)))
    made = {name for name in made if (folder / name).is_file()}
    try:
        of = parse_patterns(lines)
    except InvalidPattern:
        return
    assert set(walk(folder, of)) == {name for name in made if not is_excluded(name, of)}


def held(bundle):
    with tarfile.open(fileobj=BytesIO(bundle.content)) as archive:
        return archive.getnames()


def test_what_goes_with_a_script(script):
    """Its folder without what .dockerignore names, caches, and the repository itself."""
    for name in ("__pycache__/x.pyc", "deep/__pycache__/x.pyc", ".git/config", "runs/train/HEAD"):
        (script.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (script.parent / name).touch()
    assert held(pack_bundle(script.parent)) == [".dockerignore", "helper.py", "train.py"]


def test_the_same_content_has_the_same_name(script, tmp_path):
    """Whenever it was written, wherever it lies, whoever owns it."""
    first = pack_bundle(script.parent)
    os.utime(script, (1, 1))
    script.parent.rename(tmp_path / "elsewhere")
    assert pack_bundle(tmp_path / "elsewhere") == first
    (tmp_path / "elsewhere/helper.py").write_text("NAME = 'other'\n")
    assert pack_bundle(tmp_path / "elsewhere").digest != first.digest


def test_unpacked_as_it_was(script, tmp_path):
    """Content, links within the folder, and what may be executed."""
    script.chmod(0o755)
    (script.parent / "link.py").symlink_to("helper.py")
    (tmp_path / "there").mkdir()
    unpack_bundle(pack_bundle(script.parent).content, tmp_path / "there")
    assert (tmp_path / "there/train.py").read_bytes() == script.read_bytes()
    assert os.access(tmp_path / "there/train.py", os.X_OK)
    assert not os.access(tmp_path / "there/helper.py", os.X_OK)
    assert Path(tmp_path / "there/link.py").readlink() == Path("helper.py")


@pytest.mark.parametrize(
    "entries",
    [
        [("../outside", None)],
        [("/tmp/outside", None)],
        [("link", "..")],
        [("link", "/tmp")],
        [("a/link", "../..")],
    ],
    ids=str,
)
def test_an_archive_of_somebody_else(entries, tmp_path):
    """Nothing is written outside of the folder."""
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, target in entries:
            entry = tarfile.TarInfo(name)
            if target:
                entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry, BytesIO())
    (tmp_path / "there").mkdir()
    with pytest.raises(BundleError, match="leads out of the folder"):
        unpack_bundle(content.getvalue(), tmp_path / "there")
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]
    assert list((tmp_path / "there").iterdir()) == []


def test_five_gigabytes(script):
    """It is refused before any of it is read; the line names what is large, and the way out."""
    with (script.parent / "weights.bin").open("wb") as sparse:
        sparse.truncate(5 << 30)
    with pytest.raises(BundleError) as refusal:
        pack_bundle(script.parent)
    assert "weights.bin: 5120 MiB" in str(refusal.value)
    assert ".dockerignore" in str(refusal.value)
    assert "--max-size" in str(refusal.value)


def test_a_line_that_can_not_be_read(script):
    """It is named."""
    (script.parent / ".dockerignore").write_text("[z-a]\n")
    with pytest.raises(BundleError, match=r"dockerignore: '\[z-a\]' is no pattern"):
        pack_bundle(script.parent)


def test_what_is_large_is_named_at_once(script):
    """However much it is: nobody goes through it folder by folder, nor waits."""
    parts = [("alpha/deep/er", 1), ("beta", 3), ("gamma/raw", 2), ("gamma/small/er", 1)]
    parts += [(f"many/{n}", 1) for n in range(5)]
    for part, size in parts:
        (script.parent / part).mkdir(parents=True)
        for n in range(3):
            with (script.parent / part / f"{n}.bin").open("wb") as sparse:
                sparse.truncate(size << 30)
    began = time.monotonic()
    with pytest.raises(BundleError) as refusal:
        pack_bundle(script.parent)
    assert "(many: 15360 MiB, beta: 9216 MiB, gamma/raw: 6144 MiB)" in str(refusal.value)
    assert time.monotonic() - began < 5


def test_many_files_are_large_too(script):
    """Each takes room in the archive, however short it is."""
    (script.parent / "tiny").mkdir()
    for n in range(2100):
        (script.parent / f"tiny/{n}").touch()
    with pytest.raises(BundleError, match="tiny: 1 MiB"):
        pack_bundle(script.parent, 1 << 20)


@pytest.mark.parametrize("lines", ["*", "*.py\n", "# all\n**"])
def test_a_script_that_is_left_out(script, lines):
    """It is said before a machine finds out."""
    (script.parent / ".dockerignore").write_text(lines)
    with pytest.raises(BundleError, match=r"leaves out train\.py itself; .*!train\.py"):
        pack_bundle(script.parent, script="train.py")
    (script.parent / ".dockerignore").write_text(f"{lines}\n!train.py")
    assert held(pack_bundle(script.parent, script="train.py"))[-1] == "train.py"


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfdata\r\n", b"caf\xe9\ndata"])
def test_an_ignore_file_from_elsewhere(script, text):
    """With a byte order mark and Windows' line ends; with what is no UTF-8."""
    (script.parent / ".dockerignore").write_bytes(text)
    assert held(pack_bundle(script.parent)) == [".dockerignore", "helper.py", "train.py"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "../project/helper.py"])
def test_link_out_of_the_folder(script, target):
    """The job could not follow it."""
    (script.parent / "link").symlink_to(target)
    with pytest.raises(BundleError, match=r"link leads to .*dockerignore"):
        pack_bundle(script.parent)


def test_what_is_no_file(script):
    """A pipe would never end."""
    os.mkfifo(script.parent / "pipe")
    with pytest.raises(BundleError, match=r"pipe is no file"):
        pack_bundle(script.parent)
