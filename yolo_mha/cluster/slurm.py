"""`compare emit=slurm`: a job array with a task for each run, and the job that concludes."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.files import write_text
from ..engine.own_settings import checked
from ..errors import ConfigError
from ..evaluation.commands import commands_again
from ..evaluation.folder import open_folder
from ..evaluation.plan import prepare
from ..guard import guarded
from ..result import Result
from .single import all_runs, recipe_of_single_runs

SLURM = "slurm"
ARRAY = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --chdir={here}
#SBATCH --output={folder}/%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
runs=({runs})
exec {command} only="${{runs[$SLURM_ARRAY_TASK_ID]}}"
"""
CONCLUDE = """\
#!/bin/bash
#SBATCH --job-name={name}-conclude
#SBATCH --chdir={here}
#SBATCH --output={folder}/conclude-%j.log
exec {command} conclude=True
"""
SUBMIT = """\
#!/bin/bash
# Options for sbatch, such as --partition=gpu --gres=gpu:1 --time=8:00:00, go to both jobs.
set -eu
array=$(sbatch --parsable "$@" {array})
sbatch --dependency="afterany:$array" "$@" {conclude}
"""


@dataclass(frozen=True)
class JobFiles(Result):
    """Jobs of a comparison for a scheduler.

    Attributes:
        save_dir: The comparison's folder.
        runs: The runs, in the order of the array's tasks.
        array: The job array: one run a task.
        conclude: The job that scores and reports, after all tasks have ended.
        submit: Submits both, with options for sbatch.
    """

    save_dir: str
    runs: list[str]
    array: str
    conclude: str
    submit: str


@checked
@guarded()
def emit_jobs(
    recipe: str | Path | None = None, *, emit: str = SLURM, project: str | Path | None = None, **settings: Any
) -> JobFiles:
    """Write the jobs of a comparison for SLURM, and train nothing.

    The plan is written down as if the first run began now. The machines have to see the folder, the data, the models
    and this Python under the same paths.

    Args:
        recipe: A recipe YAML; or None.
        emit: The scheduler; "slurm" is the only one.
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.
        **settings: As for `compare`, or beside a recipe as for `run_recipe`.

    Raises:
        ConfigError: Another scheduler is asked for, a setting is unusable, or looks are declared, which a job array
            does not wait for.
        ModelError, CheckpointError, DataError, UnsupportedTaskError: As `compare`.
    """
    if emit != SLURM:
        raise ConfigError("Unknown scheduler.", given=f"emit={emit}", expected=SLURM)
    wanted = recipe_of_single_runs(recipe, settings)
    plan = prepare(wanted)
    with open_folder(plan, project) as folder:
        command = commands_again(plan.recipe, folder, {})[0].removeprefix("yolo-mha")
        jobs, runs = folder / SLURM, all_runs(plan.recipe)
        array, conclude, submit = (jobs / f"{name}.sh" for name in ("array", "conclude", "submit"))
        values = {
            "name": shlex.quote(plan.recipe.name),
            "here": shlex.quote(str(Path.cwd())),
            "folder": shlex.quote(str(jobs).replace("%", "%%")),
            "command": f"{shlex.quote(sys.executable)} -m yolo_mha{command}",
            "last": len(runs) - 1,
            "runs": shlex.join(runs),
            "array": shlex.quote(str(array)),
            "conclude": shlex.quote(str(conclude)),
        }
        for file, text in ((array, ARRAY), (conclude, CONCLUDE), (submit, SUBMIT)):
            write_text(file, text.format(**values))
            file.chmod(0o755)
    return JobFiles(str(folder), runs, str(array), str(conclude), str(submit))
