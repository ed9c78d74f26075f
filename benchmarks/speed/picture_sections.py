"""The sections about pictures before they are cropped: resizing, colours, decoding, and a folder off a phone."""

from __future__ import annotations

from speed import colors, decoding, phone, resizing
from speed.document import Section
from speed.kernel_contenders import STORE
from speed.photographs import PHONE_SIDE, make_photographs
from speed.settings import Settings, case_of, median_of, note, outcome_of
from speed.turns import Limits

_QUICK_SIDE = 1000


def measure_resizing(settings: Settings) -> Section:
    section = Section(
        title="Resizing",
        text="A photograph of 12 megapixels to a shorter side of 512, by filter, one thread. Ours is Pillow's bit for "
        "bit; rows that differ by more than one level say so.",
    )
    limits = Limits(rounds=settings.rounds, turn=0.1, budget=30 if settings.thorough else 10)
    gains = []
    for case in [resizing.Case(filter="bicubic", side=_QUICK_SIDE)] if settings.quick else resizing.CASES:
        settings.say(f"resizing: {case.name}")
        measured = case_of(case.name, resizing.contenders(case), limits, tolerance=resizing.TOLERANCE)
        section.cases.append(measured)
        pillow, ours = median_of(measured, resizing.PILLOW), median_of(measured, "ours")
        if pillow is not None and ours is not None:
            gains.append(pillow / ours)
    note(section, "resizing: speed, x Pillow, least of all filters", min(gains, default=None))
    return section


def measure_colors(settings: Settings) -> Section:
    section = Section(
        title="Colours",
        text="A photograph of 12 megapixels from Display P3 to sRGB, in place, one thread, out of cache. A plain write "
        "of the same bytes is the limit.",
    )
    settings.say("colours")
    # A call a turn: none finds its picture in a cache, and few find it converted already.
    limits = Limits(rounds=settings.rounds, turn=0.0, budget=60)
    side = _QUICK_SIDE if settings.quick else PHONE_SIDE
    measured = case_of(f"{side} pixels", colors.contenders(side), limits, tolerance=1.0)
    section.cases.append(measured)
    note(section, "colours: time, x a plain write", median_of(measured, "ours"), median_of(measured, STORE))
    return section


def measure_decoding(settings: Settings) -> Section:
    section = Section(
        title="Decoding",
        text="JPEG photographs from encoded bytes to what is cut into crops for the model, one thread: five crops of "
        "the picture as it is, then all of it at a shorter side of 512. The peak of memory is the process's, libraries "
        "and file included.",
    )
    limits = Limits(rounds=settings.rounds, turn=0.1, budget=20)
    for side in decoding.SIDES[:1] if settings.quick else decoding.SIDES:
        settings.say(f"decoding: {side} pixels")
        made = make_photographs(settings.photographs / f"decoding-{side}", 2, (side,))
        photograph = made[-1]  # a first one so small is a PNG
        megapixels = f"{side * side * 2 / 3 / 1e6:.0f} megapixels"
        crops = case_of(f"five crops of {megapixels}", decoding.crop_contenders(photograph), limits, base=decoding.FULL)
        sizes = case_of(f"{megapixels} to 512", decoding.size_contenders(photograph), limits, base=decoding.FULL)
        section.cases += [crops, sizes]
        if side == PHONE_SIDE:
            whole = median_of(crops, decoding.FULL)
            note(section, "decoding: five crops, x the time of a full decode", median_of(crops, decoding.CROPS), whole)
            note(section, "decoding: shrunk, x the time of a full decode", median_of(sizes, decoding.SHRUNK), whole)
    return section


def measure_phone(settings: Settings) -> Section:
    count = 6 if settings.quick else 200 if settings.thorough else 20
    section = Section(
        title="Phone",
        text=f"A folder of {count} photographs of a phone's size, 12 megapixels in Display P3, from files to rows with "
        "the edge model: commands from start to exit, file caches warm.",
    )
    settings.say("phone")
    side = _QUICK_SIDE if settings.quick else PHONE_SIDE
    photographs = phone.phone_photographs(settings.photographs / f"phone-{side}", count, side)
    limits = Limits(rounds=3 if settings.thorough else 2, turn=0.0, load=600, call=600, budget=600)
    measured = case_of(f"{len(photographs)} photographs", phone.contenders(photographs, settings.threads), limits)
    section.cases.append(measured)
    for outcome in measured.outcomes:
        if outcome.median:
            outcome.facts["images a second"] = len(photographs) / outcome.median
    ours, unresized = outcome_of(measured, phone.OURS), outcome_of(measured, phone.UNRESIZED)
    note(section, "phone: images a second, x those without a resize", unresized.median, ours.median)
    note(section, "phone: peak memory, x that without a resize", ours.peak_megabytes, unresized.peak_megabytes)
    return section
