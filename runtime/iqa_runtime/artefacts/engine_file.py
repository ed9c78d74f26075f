"""TensorRT plans as artefacts: ``x.plan``, and beside it ``x.plan.json``, which says what it is and where it runs.

A plan is executable code of TensorRT, and TensorRT checks little of what it is given. So nothing reaches it before
`load_engine` has found the digest right, on the very bytes it returns, and `check_host` the host. The digest proves
that the bytes are those the JSON speaks of, not who made them; a signature (`iqa_runtime.artefacts.signing`) does.
"""

from __future__ import annotations

import shlex
from dataclasses import astuple, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import msgspec

from iqa_runtime.artefacts.contract_json import contract_from_json
from iqa_runtime.artefacts.files import PLAN_ENCODER_SUFFIX, PLAN_SUFFIX, description_path, read_file, scorer_name
from iqa_runtime.artefacts.host_key import HostKey, Portability, differences
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.errors import ArtefactError, BackendError

SCHEMA_VERSION = 1
_MIB = 2**20  # the unit of --workspace
_MAX_TEXT = 1000
"""Characters of a version or a name; more than any has, and fewer digits than Python makes a number of (4300)."""
_TOGETHER = "keep the .plan and its .plan.json in one folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRange:
    """Batch sizes of a plan: the least, the one it was optimised for, and the most it takes."""

    min: int
    opt: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRange:
    """Heights and widths, as the network takes them, of a plan of whole pictures at their own size.

    Attributes
    ----------
    min, opt, max
        Height and width in pixels: the least, those it was optimised for, and the most.
    """

    min: tuple[int, int]
    opt: tuple[int, int]
    max: tuple[int, int]

    def takes(self, height: int, width: int) -> bool:
        """Tell whether a picture is within the range."""
        return self.min[0] <= height <= self.max[0] and self.min[1] <= width <= self.max[1]

    def __str__(self) -> str:
        return f"{self.min[1]} x {self.min[0]} to {self.max[1]} x {self.max[0]} pixels"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """What ``x.plan.json`` says of ``x.plan``.

    Attributes
    ----------
    contract
        Of the artefact the plan was built from; None for a reference encoder, which has none of its own.
    plan, source
        Digests of the plan, and of the ONNX file it was built from.
    host
        Where it was built.
    portability, version_compatible
        Which GPUs and which versions of the library run it beside those of `host`.
    batch
        Batch sizes it takes, the same for every input.
    sizes
        Heights and widths it takes; None where the contract fixes them.
    level
        Builder optimisation level, 0 to 5.
    workspace
        Scratch memory the builder was allowed, in bytes; None for the library's own choice.
    stripped
        Whether the weights were left out; such a plan runs only after they were put back.
    refittable
        Whether other weights may be put in.
    layer_tensors
        Float tensors inside the network that were made outputs, and its other ones: name to shape for one
        item. Empty for a plan that shows none.
    exporter
        Package and version that wrote it.
    schema
        Version of this layout.
    """

    contract: Contract | None
    plan: FileDigest
    source: FileDigest
    host: HostKey
    portability: Portability
    version_compatible: bool
    batch: BatchRange
    sizes: SizeRange | None = None
    level: int
    workspace: int | None
    stripped: bool
    refittable: bool
    layer_tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    exporter: str
    schema: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """Serialise; keys in order of declaration, so that equal records give equal bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @property
    def artefact(self) -> str:
        """Name of the ONNX artefact behind the plan, as commands take it; behind a reference encoder, its scorer's."""
        return _as_argument(scorer_name(self.source.file))

    @property
    def rebuild_command(self) -> str:
        """The command that makes the plan again from its source, to be run where it shall run."""
        output = _as_argument(scorer_name(self.plan.file))
        words = ["iqa-engine", "build", self.artefact, "--output", output, "--library", self.host.library]
        words += ["--min-batch", str(self.batch.min), "--opt-batch", str(self.batch.opt)]
        words += ["--max-batch", str(self.batch.max), "--builder-level", str(self.level)]
        if self.sizes is not None:
            for name, size in (("min", self.sizes.min), ("opt", self.sizes.opt), ("max", self.sizes.max)):
                words += [f"--{name}-size", f"{size[0]}x{size[1]}"]
        if self.workspace is not None:
            words += ["--workspace", str(-(-self.workspace // _MIB))]
        flags = {
            "--version-compatible": self.version_compatible,
            "--hardware-compatible": self.portability != "same_gpu" and self.host.library == "tensorrt",
            "--strip": self.stripped,
            "--refittable": self.refittable,
            "--mark-layers": bool(self.layer_tensors),
        }
        return shlex.join([*words, *(flag for flag, is_set in flags.items() if is_set)])

    @property
    def marking_command(self) -> str:
        """The command that builds, beside the plan, one of the same source that shows its layers."""
        output = f"{Path(_as_argument(scorer_name(self.plan.file))).stem}.layers{PLAN_SUFFIX}"
        words = ["iqa-engine", "build", self.artefact, "--mark-layers", "--output", output]
        return shlex.join([*words, "--library", self.host.library])

    def refit_command(self, plan: Path) -> str:
        """Return the command that puts the weights back into this plan, which now lies at `plan`."""
        stripped = _as_argument(scorer_name(plan.name))
        output = f"{Path(stripped).stem}.full{PLAN_SUFFIX}"
        return shlex.join(["iqa-engine", "refit", self.artefact, stripped, "--output", output])


class _Parts(msgspec.Struct):
    """What is looked at before the rest: each has messages of its own."""

    schema: int
    contract: msgspec.Raw


def read_engine_file(plan: Path, *, trust: Path | None = None) -> EngineFile:
    """Read what is said of a plan; the plan itself is not looked at.

    Parameters
    ----------
    plan
        Path of the ``.plan`` file.
    trust
        Public key (PEM, Ed25519) that must have signed the description; None to take it from anybody.

    Raises
    ------
    FileError
        If the JSON beside it, the key or the signature cannot be read.
    ArtefactError
        If it is not the description of a plan, of another schema version, or not signed by that key.
    UsageError
        If the key is none.
    DependencyError
        If `trust` is given and ``cryptography`` is not installed.
    """
    text = read_file(description_path(plan), f"the description of {plan.name}", _TOGETHER)
    if trust is not None:
        # Here and not above, because few have the library.
        from iqa_runtime.artefacts.signing import check_signature

        check_signature(description_path(plan), text, trust)
    return _parsed(text, plan)


def load_engine(plan: Path, *, trust: Path | None = None) -> tuple[EngineFile, bytes]:
    """Read a plan and its description, and prove that they belong together.

    Parameters
    ----------
    plan
        Path of the ``.plan`` file.
    trust
        As in `read_engine_file`.

    Returns
    -------
    description, content
        The very bytes that were checked, for TensorRT.

    Raises
    ------
    FileError, ArtefactError, UsageError, DependencyError
        As `read_engine_file`; also if the plan cannot be read, or has another digest than the description says.
    """
    described = read_engine_file(plan, trust=trust)
    content = read_file(plan, "the plan", _TOGETHER)
    digest = sha256(content).hexdigest()
    if digest != described.plan.sha256.lower():
        raise ArtefactError(
            f"{plan}: SHA-256 is {digest}, {description_path(plan).name} says {described.plan.sha256}: the plan was "
            f"changed, cut short or exchanged; copy both files again, or rebuild: {described.rebuild_command}"
        )
    return described, content


def check_host(plan: Path, described: EngineFile, host: HostKey) -> None:
    """Refuse a plan that was not built for this host.

    Parameters
    ----------
    plan
        Path of the ``.plan`` file, for the message.
    described
        What `load_engine` returned.
    host
        Where it is to run: `iqa_runtime.artefacts.host_key.current_host`, with the library of ``described.host``.

    Raises
    ------
    BackendError
        If it cannot run here; the message names both sides and the command that rebuilds it.
    """
    found = list(
        differences(described.host, host, described.portability, version_compatible=described.version_compatible)
    )
    if not found:
        return
    remedy = f"rebuild it on this host: {described.rebuild_command}"
    if host.gpu is None:
        # A GPU alone does not help where something else is wrong, too.
        rebuilt = "" if len(found) == 1 else f" after rebuilding it there ({described.rebuild_command})"
        remedy = (
            "check the driver with nvidia-smi and that cuda-bindings or PyCUDA is installed, run it on a host with a "
            f"GPU{rebuilt}, or score with the ONNX artefact: {shlex.join(['iqa-run', described.artefact])}"
        )
    raise BackendError(f"{plan}: built for {described.host}; here: {host}: {'; '.join(found)}; {remedy}")


def _as_argument(name: str) -> str:
    """Return a name as commands take it, even where it looks like an option."""
    return f"./{name}" if name.startswith("-") else name


def _texts(described: EngineFile) -> tuple[str, ...]:
    """Return every free text but those of the contract, which has rules of its own."""
    host = described.host
    gpu = () if host.gpu is None else (host.gpu.name, host.gpu.driver)
    return host.version, host.platform, *gpu, *described.layer_tensors, described.exporter


def _parsed(text: bytes, plan: Path) -> EngineFile:
    source = str(description_path(plan))
    remedy = "build the plan again"
    try:
        parts = msgspec.json.decode(text, type=_Parts)
        if parts.schema != SCHEMA_VERSION:
            raise ArtefactError(
                f"{source}: plan schema {parts.schema}, this iqa-deploy reads schema {SCHEMA_VERSION}; {remedy}, or "
                "install the version that wrote it"
            )
        raw = bytes(parts.contract)
        contract = None if raw == b"null" else contract_from_json(raw, source=source)
        described = msgspec.convert(msgspec.json.decode(text) | {"contract": None}, EngineFile)
    except msgspec.MsgspecError as error:
        raise ArtefactError(f"{source}: not the description of a plan ({error}); {remedy}") from error
    except RecursionError as error:
        raise ArtefactError(f"{source}: not the description of a plan (nested too deeply); {remedy}") from error
    for words in _texts(described):
        # Messages show them, and versions are compared as numbers.
        if len(words) > _MAX_TEXT or not words.isprintable():
            raise ArtefactError(f"{source}: {words[:_MAX_TEXT]!r} is no version and no name; {remedy}")
    for name in (described.plan.file, described.source.file):
        # Messages show them, and offer commands with them.
        if Path(name).name != name or not name.isprintable():
            raise ArtefactError(f"{source}: {name!r} is not the name of a file; {remedy}")
    batch = described.batch
    if not 1 <= batch.min <= batch.opt <= batch.max:
        raise ArtefactError(f"{source}: batch sizes {batch.min}, {batch.opt}, {batch.max} are no range; {remedy}")
    sizes = described.sizes
    if (sizes is not None) != (contract is not None and contract.has_own_size):
        raise ArtefactError(f"{source}: sizes go with pictures at their own size, and only with them; {remedy}")
    if sizes is not None and not all(1 <= low <= opt <= high for low, opt, high in zip(*astuple(sizes), strict=True)):
        raise ArtefactError(f"{source}: {sizes.min}, {sizes.opt}, {sizes.max} are no range of sizes; {remedy}")
    if sizes is not None and batch.max != 1:
        raise ArtefactError(f"{source}: pictures at their own size are run one at a time; {remedy}")
    if contract is None and not plan.name.endswith(PLAN_ENCODER_SUFFIX):
        raise ArtefactError(f"{source}: a plan without a contract, and no reference encoder by its name; {remedy}")
    return replace(described, contract=contract)
