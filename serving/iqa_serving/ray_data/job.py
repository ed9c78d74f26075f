"""A run on a cluster, from files to rows."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.data
from ray.data.checkpoint import CheckpointConfig

from iqa_runtime import BackendError, IqaError, Scorer, UsageError
from iqa_runtime.commands.arrow_rows import about_run
from iqa_runtime.commands.rows import KEYS
from iqa_runtime.errors import first_line
from iqa_runtime.measuring import MEASURED
from iqa_runtime.tables import arrow_schema
from iqa_serving.ray_data.cluster import Workers
from iqa_serving.ray_data.output import Output
from iqa_serving.ray_data.source import ImageFiles
from iqa_serving.ray_data.stage import ScoreImages
from iqa_serving.ray_data.tables import ERROR, IMAGE, NAME, REFERENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run.

    Attributes
    ----------
    artefact
        As for `iqa_runtime.Scorer`, on every node.
    source
        The images.
    output
        Where the rows go.
    workers
        What scores.
    rows
        Of a file of the output: also what a worker takes at a time.
    scoring
        Further arguments of `iqa_runtime.Scorer`.
    options
        Further arguments of `ScoreImages`.
    """

    artefact: str
    source: ImageFiles
    output: Output
    workers: Workers
    rows: int
    scoring: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, scored: str | None = None) -> None:
        """Score what is not done.

        Parameters
        ----------
        scored
            What has scored the rows that are there, as `iqa_runtime.Scorer.artefact_key`; None without any.

        Raises
        ------
        UsageError
            If that is something else than this run.
        IqaError
            If a worker cannot open the artefact, or the run has failed.
        """
        workers = self.workers.number(ray.cluster_resources())
        given = {"num_cpus": self.workers.cpus, "num_gpus": self.workers.gpus or None}
        device = {"device": "cuda"} if self.workers.gpus else {}
        # A worker is asked first: an actor that cannot begin is begun again, with a traceback each time.
        about = ray.get(ray.remote(_opened).options(**given).remote(self.artefact, device | dict(self.scoring)))
        if isinstance(about, IqaError):
            raise about
        key = about["iqa.artefact"]
        if scored not in (None, key):
            raise UsageError(
                f"{self.output.name}: its rows are of another artefact, other crops or another size ({scored}, this "
                f"run is {key}); give another ``output``"
            )
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # that there is no bar
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = sys.stderr.isatty()
        context.checkpoint_config = CheckpointConfig(
            id_column=NAME, checkpoint_path=self.output.checkpoint, delete_checkpoint_on_success=False
        )
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The minimum number of concurrent actors")  # of a small rest
                self._score(about, ray.data.ActorPoolStrategy(size=workers), given)
        except ray.exceptions.RayError as error:
            raise _cause(error) from error
        finally:
            context.checkpoint_config = None
        self.output.drop_unfinished()

    def _score(self, about: dict[str, str], actors: Any, given: dict[str, Any]) -> None:
        blocks = self.source.schema
        kept = [name for name in blocks.names if name not in (NAME, IMAGE, REFERENCE, ERROR)]
        schema = arrow_schema(KEYS, MEASURED, about)
        for name in kept:
            schema = schema.append(blocks.field(name))
        # Ray would cut what few tasks read into blocks of a row or two.
        dataset = ray.data.read_datasource(self.source, override_num_blocks=self.source.tasks)
        dataset.repartition(target_num_rows_per_block=self.rows, strict=True).map_batches(
            ScoreImages,
            fn_constructor_args=(self.artefact,),
            fn_constructor_kwargs={
                "column": IMAGE,
                "id_column": NAME,
                "reference_column": REFERENCE if REFERENCE in blocks.names else None,
                "error_column": ERROR,
                "keep": kept,
                **self.options,
                **self.scoring,
            },
            compute=actors,
            **given,
            batch_size=None,
            batch_format="pyarrow",
        ).write_parquet(self.output.address, schema=schema, compression="zstd")


def _opened(artefact: str, scoring: dict[str, Any]) -> dict[str, str] | IqaError:
    """Return what files of rows say about a run, or why a worker cannot open its artefact."""
    try:
        with Scorer(artefact, **scoring) as scorer:
            return about_run(scorer)
    except IqaError as error:
        return error


def _cause(error: BaseException) -> IqaError:
    """Return what of ours is behind an error of Ray, or what it says."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, IqaError):
            return type(found)(str(getattr(found, "cause", found)))
        cause = getattr(found, "cause", None)
        found = cause if isinstance(cause, BaseException) else found.__cause__
    return BackendError(f"Ray has ended the run ({first_line(error)}); its logs say more")
