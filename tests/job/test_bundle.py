"""A folder as an archive: included files, excluded files, and refused ones."""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

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
    """Rules from Docker's documentation, and cases that other implementations get wrong."""
    assert is_excluded(name, parse_patterns(lines.splitlines())) is out


parts = st.lists(st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "?", "a?", ".a"]), min_size=1)
lines_of = st.builds("{}{}".format, st.sampled_from(["", "!", "/"]), parts.map("/".join))


@given(
    lines=st.lists(lines_of, min_size=1, max_size=3),
    name=st.lists(st.sampled_from(["a", "b", "ab", "abb", ".a", "c"]), min_size=1).map("/".join),
)
def test_same_as_docker_for_python(lines, name):
    """Patterns match as in docker-py, but for `**`, with which docker-py misses deeper folders."""
    assert is_excluded(name, parse_patterns(lines)) == PatternMatcher(lines).matches(name)


names = st.text("ab.*?[]!#/\\ -", max_size=8)


@given(lines=st.lists(names, max_size=4), files=st.sets(names, max_size=6))
def test_walk_yields_the_files_that_are_not_excluded(tmp_path_factory, lines, files):
    """Any valid patterns are accepted, and walk yields exactly the files that are not excluded."""
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
        patterns = parse_patterns(lines)
    except InvalidPattern:
        return
    expected = {name for name in made if not is_excluded(name, patterns)}
    assert set(walk(folder, patterns)) == expected


def names_in(bundle):
    with tarfile.open(fileobj=BytesIO(bundle.content)) as archive:
        return archive.getnames()


def test_files_of_a_bundle(script):
    """The script's folder without files in .dockerignore, caches, .git and the store."""
    for name in ("__pycache__/x.pyc", "deep/__pycache__/x.pyc", ".git/config", "runs/train/HEAD"):
        (script.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (script.parent / name).touch()
    assert names_in(pack_bundle(script.parent)) == [".dockerignore", "helper.py", "train.py"]


def test_the_same_content_has_the_same_name(script, tmp_path):
    """The digest does not depend on modification times or on the folder's location."""
    first = pack_bundle(script.parent)
    os.utime(script, (1, 1))
    script.parent.rename(tmp_path / "elsewhere")
    assert pack_bundle(tmp_path / "elsewhere") == first
    (tmp_path / "elsewhere/helper.py").write_text("NAME = 'other'\n")
    assert pack_bundle(tmp_path / "elsewhere").digest != first.digest


def test_unpacked_as_it_was(script, tmp_path):
    """Content, links within the folder, and executable bits are preserved."""
    script.chmod(0o755)
    (script.parent / "link.py").symlink_to("helper.py")
    (tmp_path / "target").mkdir()
    unpack_bundle(pack_bundle(script.parent).content, tmp_path / "target")
    assert (tmp_path / "target/train.py").read_bytes() == script.read_bytes()
    assert os.access(tmp_path / "target/train.py", os.X_OK)
    assert not os.access(tmp_path / "target/helper.py", os.X_OK)
    assert Path(tmp_path / "target/link.py").readlink() == Path("helper.py")


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
def test_a_malicious_archive(entries, tmp_path):
    """Nothing is written outside of the folder, whatever paths an archive contains."""
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, target in entries:
            entry = tarfile.TarInfo(name)
            if target:
                entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry, BytesIO())
    (tmp_path / "target").mkdir()
    with pytest.raises(BundleError, match="leads out of the folder"):
        unpack_bundle(content.getvalue(), tmp_path / "target")
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]
    assert list((tmp_path / "target").iterdir()) == []


def archive_of(*entries):
    """Return a compressed archive of these entries, each with its content."""
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for entry, data in entries:
            entry.size = len(data)
            archive.addfile(entry, BytesIO(data))
    return content.getvalue()


def entry_of(name, kind=tarfile.REGTYPE, target=""):
    """Return the header of an entry."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_an_archive_of_devices_and_hard_links(tmp_path, kind):
    """Only regular files and links within the folder are unpacked."""
    with pytest.raises(BundleError, match="is not a regular file"):
        unpack_bundle(archive_of((entry_of("x", kind, "train.py"), b"")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_grows(tmp_path):
    """The size of all files is limited, however small the archive is."""
    bomb = archive_of(*[(entry_of(str(i)), b"0" * (1 << 20)) for i in range(4)])
    assert len(bomb) < 1 << 16
    with pytest.raises(BundleError, match="more than 3 MiB"):
        unpack_bundle(bomb, tmp_path, limit=3 << 20)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 << 20


def test_an_archive_of_many_empty_files(tmp_path):
    """Headers count: an archive of nothing but entries is limited too."""
    many = archive_of(*[(entry_of(str(i)), b"") for i in range(20)])
    with pytest.raises(BundleError, match="MiB"):
        unpack_bundle(many, tmp_path, limit=10 * 512)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(gzip.compress))
def test_what_is_no_archive(content):
    """Any other content is one line."""
    with TemporaryDirectory() as folder, suppress(BundleError):
        unpack_bundle(content, Path(folder))


def test_five_gigabytes(script):
    """A large folder is refused before it is read; the line names the large files and the fix."""
    with (script.parent / "weights.bin").open("wb") as sparse:
        sparse.truncate(5 << 30)
    with pytest.raises(BundleError) as refusal:
        pack_bundle(script.parent)
    assert "weights.bin: 5120 MiB" in str(refusal.value)
    assert ".dockerignore" in str(refusal.value)
    assert "--max-size" in str(refusal.value)


def test_an_invalid_pattern(script):
    """The error names the file and the invalid pattern."""
    (script.parent / ".dockerignore").write_text("[z-a]\n")
    with pytest.raises(BundleError, match=r"dockerignore: '\[z-a\]' is not a valid pattern"):
        pack_bundle(script.parent)


def test_large_folders_are_named_at_once(script):
    """One error names the largest folders, within seconds, however many files there are."""
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
    """Each file takes space in the archive, even an empty one."""
    (script.parent / "tiny").mkdir()
    for n in range(2100):
        (script.parent / f"tiny/{n}").touch()
    with pytest.raises(BundleError, match="tiny: 1 MiB"):
        pack_bundle(script.parent, 1 << 20)


@pytest.mark.parametrize("lines", ["*", "*.py\n", "# all\n**"])
def test_an_excluded_script(script, lines):
    """A script that .dockerignore excludes is refused before a job is submitted."""
    (script.parent / ".dockerignore").write_text(lines)
    with pytest.raises(BundleError, match=r"excludes train\.py itself; .*!train\.py"):
        pack_bundle(script.parent, script="train.py")
    (script.parent / ".dockerignore").write_text(f"{lines}\n!train.py")
    assert names_in(pack_bundle(script.parent, script="train.py"))[-1] == "train.py"


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfdata\r\n", b"caf\xe9\ndata"])
def test_an_ignore_file_from_elsewhere(script, text):
    """A byte order mark, Windows line endings, and bytes that are not UTF-8 are accepted."""
    (script.parent / ".dockerignore").write_bytes(text)
    assert names_in(pack_bundle(script.parent)) == [".dockerignore", "helper.py", "train.py"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "../project/helper.py"])
def test_link_out_of_the_folder(script, target):
    """A link out of the folder is refused: the job could not follow it."""
    (script.parent / "link").symlink_to(target)
    with pytest.raises(BundleError, match=r"link points to .*dockerignore"):
        pack_bundle(script.parent)


def test_a_pipe(script):
    """A named pipe is refused: reading it would never end."""
    os.mkfifo(script.parent / "pipe")
    with pytest.raises(BundleError, match=r"pipe is not a regular file"):
        pack_bundle(script.parent)
