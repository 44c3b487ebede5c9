"""The folder that a job needs: found from the script's name, and packed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.launch.process import Launch
from keepfit.infra.jobs.bundle import Bundle
from keepfit.job.commands.failures import fail, store_errors_exit
from keepfit.job.process.program import check_program, command_of


@dataclass(frozen=True)
class Upload:
    """The folder that a job needs, and the command line that starts the training in it.

    Attributes:
        name: the default name of the run.
        folder: the folder; Python imports from it.
        file: the file in it that the archive must contain, if it is known.
        command: the part of the command line of `keepfit run` that names the program.
    """

    name: str
    folder: Path
    file: str | None
    command: tuple[str, ...]


def find_upload(target: str, folder: Path, *, module: bool) -> Upload:
    """Return what to upload for a script, or for a module in `folder`; exit if there is none."""
    program = command_of(target, [], module=module)
    name = Launch.of_program(program).run_name()
    if not module:
        try:
            check_program(program)
        except ConfigurationError as error:
            fail(str(error))
        real = Path(target).resolve()  # Python imports from the folder of the file itself
        return Upload(name, real.parent, real.name, (real.name,))
    spec = PathFinder.find_spec(target.partition(".")[0], [str(folder)])
    if spec is None:
        fail(
            f"the folder {str(folder)!r} has no module {target!r}: submit it from the folder in "
            f"which `python -m {target}` is started"
        )
    file = Path(spec.origin).relative_to(folder).as_posix() if spec.origin else None
    return Upload(name, folder, file, ("-m", target))


def pack_folder(upload: Upload, max_size: int) -> Bundle:
    """Return the folder as an archive of at most `max_size` MiB."""
    from keepfit.infra.jobs.bundle import BundleError, pack_bundle

    with store_errors_exit():
        try:
            return pack_bundle(upload.folder, max_size << 20, script=upload.file)
        except BundleError as error:
            fail(str(error))
