"""Images in the body of a request: raw, or parts of a form (RFC 7578)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from iqa_runtime.images.loading import Source
from iqa_runtime.images.named import StoredImage
from iqa_serving.problems import ProblemError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form.

    Attributes
    ----------
    name
        Of the field.
    filename
        What the client calls it; None if it does not say. It is repeated in rows and nothing is done with it.
    content
        Its bytes.
    """

    name: str
    filename: str | None
    content: bytes

    @property
    def image(self) -> Source:
        """What it holds, under its file name if it has one."""
        return self.content if self.filename is None else StoredImage(self.filename, self.content)


Upload = tuple[Source, Source | None]
"""An image to score and its reference: named ones, or bare bytes."""


def read_uploads(body: bytes, content_type: str, *, needs_reference: bool, most: int) -> list[Upload]:
    """Return the images of a body: the parts ``image`` of a form, or the body itself if it is none.

    Parameters
    ----------
    body
        Of the request.
    content_type
        Its header. Only ``multipart/form-data`` means anything: what an image is, its bytes say.
    needs_reference
        Whether each is compared with a reference: the part ``reference``, one for all or one for each, in order.
    most
        Images at a time.

    Raises
    ------
    ProblemError
        400 or 413, if that is not what was sent.
    """
    media_type, parameters = parse_options_header(content_type)
    if media_type != b"multipart/form-data":
        if needs_reference:
            raise ProblemError(
                400, "this artefact compares with a reference; send a form with the parts image and reference"
            )
        return [(body, None)]
    parts = read_form(body, parameters.get(b"boundary", b""), most=2 * most)
    others = {part.name for part in parts} - {"image", "reference"}
    if others:
        raise ProblemError(400, f"the form has a part {min(others)!r}; its parts are called image and reference")
    images = [part.image for part in parts if part.name == "image"]
    references = [part.image for part in parts if part.name == "reference"]
    if not images:
        raise ProblemError(400, "the form has no part image; send one for each picture")
    if references and not needs_reference:
        raise ProblemError(400, "this artefact takes no reference; leave the part reference out")
    return with_references(images, references if needs_reference else None, most=most)


def with_references(images: Sequence[Source], references: Sequence[Source] | None, *, most: int) -> list[Upload]:
    """Give every image its reference: one for all, or one for each; None where none is wanted.

    Raises
    ------
    ProblemError
        413 if there are more than `most` images; 400 if there is another number of references.
    """
    if len(images) > most:
        raise ProblemError(413, f"{len(images)} images, and at most {most} are taken at a time; send fewer")
    if references is None:
        return [(image, None) for image in images]
    if len(references) not in (1, len(images)):
        raise ProblemError(
            400, f"{len(references)} references for {len(images)} images; send one for all, or one for each, in order"
        )
    each = references if len(references) == len(images) else [references[0]] * len(images)
    return list(zip(images, each, strict=True))


def read_form(body: bytes, boundary: bytes, *, most: int) -> list[Part]:
    """Split a form into its parts, in memory.

    Raises
    ------
    ProblemError
        400 if it is damaged or not whole; 413 if it has more than `most` parts.
    """
    form = _Form(most)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ProblemError(
            400, f"the form cannot be read ({error}); send multipart/form-data with its boundary"
        ) from error
    if not form.has_ended:
        raise ProblemError(400, "the form is cut short: its last boundary is missing; send it whole")
    return form.parts


class _Form:
    """Gathers what the parser finds."""

    def __init__(self, most: int) -> None:
        self.parts: list[Part] = []
        self.has_ended = False
        self._most = most
        self._field, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._disposition = ""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= self._most:
            raise ProblemError(413, f"the form has more than {self._most} parts; send fewer images at a time")
        self._content, self._disposition = bytearray(), ""

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._field.clear()
        self._value.clear()

    def _end_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise ProblemError(400, "a part of the form has no name; call it image or reference")
        filename = options.get(b"filename")
        name, path = (None if text is None else text.decode(errors="replace") for text in (options[b"name"], filename))
        self.parts.append(Part(name or "", path, bytes(self._content)))

    def _end(self) -> None:
        self.has_ended = True
