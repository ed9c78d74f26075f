"""The sections of the document: who takes part in them, for how long, and which figures come of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from speed import edge, growth, jobs, lpips, networks, patches, picture_sections, products
from speed.document import SAME_SCORE, Case, Section
from speed.kernel_contenders import STORE
from speed.photographs import LONG_SIDES, link_photographs, make_photographs
from speed.settings import EDGE, MAKE_SECONDS, TITLES, YOTO, Settings, case_of, export, median_of, note, outcome_of
from speed.turns import Contender, Limits, Outcome, prepare

MANY = 5000
"""Images of one run, to see memory and cost over."""

_EDGE_BLOCK = 20
"""Photographs in a block of the edge model: twice the turn of sizes, so that all blocks are alike."""


def measure_patches(settings: Settings) -> Section:
    section = Section(
        title="Patches",
        text=f"Cutting and normalising crops of {patches.SIDE} x {patches.SIDE}, one thread. A plain write of the same "
        "bytes is the limit, by NumPy's store loop and by memset. PyTorch's row does what torchvision does, which is "
        "not installed; the others are the libraries themselves.",
    )
    limits = Limits(rounds=settings.rounds, turn=0.03, budget=30 if settings.thorough else 10)
    cases = patches.LONG_CASES if settings.thorough else patches.CASES
    for case in patches.QUICK_CASES if settings.quick else cases:
        settings.say(f"patches: {case.name}")
        measured = case_of(case.name, patches.contenders(case), limits, tolerance=patches.TOLERANCE)
        section.cases.append(measured)
        if case == patches.REFERENCE_CASE:
            ours, write = median_of(measured, "ours"), median_of(measured, STORE)
            rivals = {
                outcome.name: outcome.median
                for outcome in measured.outcomes
                if outcome.role == "rival" and outcome.median is not None
            }
            libraries = [median for name, median in rivals.items() if name != patches.TUNED]
            note(section, "patches: time, x a plain write", ours, write)
            note(section, "patches: speed, x the best rival", min(rivals.values(), default=None), ours)
            note(section, "patches: speed, x the best library", min(libraries, default=None), ours)
    return section


def measure_networks(settings: Settings) -> Section:
    section = Section(
        title="Models",
        text=f"As many items a call as threads ({settings.threads}), for everyone. GFLOP/s and their share of the peak "
        "count two operations for each multiply-accumulate of the graph that ran; the peak is the quickest matrix "
        "product of that precision in all rounds of this section. Everything in float32 unless it says otherwise.",
    )
    options = {"threads": settings.threads}
    machine = prepare(
        Contender(name="machine", role="limit", make="speed.networks:machine", options=options), MAKE_SECONDS
    )
    if "bandwidth_gbytes" in machine.facts:
        section.facts["copies in memory, GB/s read and written"] = machine.facts["bandwidth_gbytes"]
    for model in settings.models if not settings.quick else (EDGE,):
        case = _measure_model(settings, model)
        section.cases.append(case)
        if model == YOTO:
            for precision in networks.PRECISIONS:
                ours = [outcome for outcome in case.outcomes if outcome.facts.get("precision") == precision]
                times = [outcome.median for outcome in ours if outcome.role == "ours" and outcome.median]
                eager = median_of(case, networks.EAGER)
                note(section, f"YOTO, {precision}: speed, x PyTorch eager", eager, min(times, default=None))
        if model == EDGE:
            batches = case_of(f"{model}, items at a time", _batches(settings), _model_limits(settings))
            section.cases.append(batches)
            single, several = batches.outcomes
            if single.median and several.median:
                least, most = networks.BATCHES
                rate = single.median / least / (several.median / most)
                section.figures[f"edge: items a second in batches of {most}, x one at a time"] = rate
    _note_shares(section)
    return section


def _batches(settings: Settings) -> list[Contender]:
    return networks.batches(EDGE, str(settings.artefacts), settings.threads)


def _model_limits(settings: Settings) -> Limits:
    return Limits(
        rounds=settings.rounds,
        least_rounds=2 if settings.quick else 4,
        turn=0.2,
        load=240,
        call=120,
        budget=300 if settings.thorough else 60,
    )


def _measure_model(settings: Settings, model: str) -> Case:
    work, threads = str(settings.artefacts), settings.threads
    entrants = networks.contenders(model, work, threads)
    if not settings.thorough:
        # Compiling takes longer than measuring all the others.
        entrants = [entrant for entrant in entrants if entrant.name != networks.COMPILED]
    needed = {entrant.options[kind] for entrant in entrants for kind in ("file", "graph")}
    failed: dict[str, str] = {}
    sizes: dict[str, dict[str, float]] = {}
    for maker in [maker for maker in networks.makers(model, work, threads) if maker.name in needed]:
        settings.say(f"models: {model}, making the {maker.name}")
        made = prepare(maker, MAKE_SECONDS)
        sizes[maker.name] = made.facts
        if made.error is not None:
            failed[maker.name] = made.error
    contenders = [*entrants, *products.contenders(threads)]
    ready = [contender for contender in contenders if contender.options.get("file") not in failed]
    settings.say(f"models: {model}, measuring")
    case = case_of(model, ready, _model_limits(settings), base=networks.EAGER, tolerance=SAME_SCORE)
    for contender in contenders:
        if contender not in ready:
            reason = f"not made: {failed[contender.options['file']]}"
            case.outcomes.append(Outcome(name=contender.name, role=contender.role, error=reason))
    _note_rates(case, contenders, sizes, threads)
    return case


def _note_rates(case: Case, contenders: list[Contender], sizes: dict[str, dict[str, float]], threads: int) -> None:
    """Note what each row computes a second, and in which precision."""
    options = {contender.name: contender.options for contender in contenders}
    for outcome in case.outcomes:
        chosen = options[outcome.name]
        precision = outcome.facts.get("precision") or chosen.get("precision", "fp32")
        gmac = sizes[chosen["graph"]].get("gmac") if "graph" in chosen else None
        gflop = outcome.facts.get("gflop") if gmac is None else 2 * gmac * threads
        rate = None if gflop is None or outcome.median is None else gflop / outcome.median
        outcome.facts = {"precision": precision, "GMAC an item": gmac}
        if outcome.role == "ours":
            outcome.facts["MB"] = sizes[chosen["file"]].get("megabytes")
        if outcome.role != "limit" and outcome.median is not None:
            outcome.facts["ms an item"] = 1000 * outcome.median / threads
        outcome.facts["GFLOP/s"] = rate


def _note_shares(section: Section) -> None:
    """Note how much of the peak each row reaches: of the quickest product of its precision beside any of the models."""
    outcomes = [outcome for case in section.cases for outcome in case.outcomes if "GFLOP/s" in outcome.facts]
    peaks: dict[str, float] = {}
    for outcome in outcomes:
        precision, rate = outcome.facts["precision"], outcome.facts["GFLOP/s"]
        if outcome.role == "limit" and rate is not None:
            peaks[precision] = max(rate, peaks.get(precision, 0.0))
    for outcome in outcomes:
        rate, peak = outcome.facts["GFLOP/s"], peaks.get(outcome.facts["precision"])
        outcome.facts["of peak"] = None if rate is None or peak is None else f"{rate / peak:.0%}"


def measure_jobs(settings: Settings) -> Section:
    section = Section(
        title="Whole job",
        text="From files to JSON lines, the default crops, float32 on ONNX Runtime: photographs of 640 pixels to 24 "
        "megapixels, JPEG and PNG, made from those in the package with grain. Scoring in blocks of photographs, in "
        "turn, models loaded; then all of them in one go beside decoding alone and the model alone, which share the "
        "same processors; then one photograph from nothing. The rivals run the network as written, with the same "
        "weights, on the same crops.",
    )
    count = 20 if settings.quick else 200
    photographs = make_photographs(settings.photographs / "mixed", count, (480, 640) if settings.quick else LONG_SIDES)
    for model in (EDGE,) if settings.quick else (EDGE, YOTO):
        name = TITLES[model]
        settings.say(f"job: {name}")
        artefact = export(settings, model)
        taken, block = (photographs, min(_EDGE_BLOCK, count)) if model == EDGE else (photographs[2:7], 1)
        most = len(taken) if settings.thorough else 3 if model == YOTO else 5
        limits = Limits(rounds=max(1, min(most, len(taken) // block)), turn=0.0, load=120, call=300, budget=1000)
        blocks = case_of(
            f"{name}, {len(taken)} photographs in blocks of {block}",
            jobs.blocks(model, artefact, taken, block, settings.threads),
            limits,
            tolerance=SAME_SCORE,
        )
        for outcome in blocks.outcomes:
            if outcome.median:
                outcome.facts["images a second"] = block / outcome.median
        limits = Limits(rounds=3 if settings.thorough else 2, turn=0.0, load=120, call=300, budget=1000)
        whole = case_of(
            f"{name}, {len(taken)} photographs at once", jobs.parts(artefact, taken, settings.threads), limits
        )
        section.cases += [blocks, whole]
        _note_parts(section, name, whole, settings.threads)
        limits = Limits(rounds=min(5, settings.rounds), turn=0.0, load=120, call=120, budget=30)
        starts = jobs.start_ups(model, artefact, taken[0], settings.threads)
        section.cases.append(case_of(f"{name}, one photograph from nothing", starts, limits))
    return section


def _note_parts(section: Section, name: str, whole: Case, threads: int) -> None:
    """Note how near the whole comes to its parts: to the slower one, and to both where they share processors."""
    ours, decoding, model = (outcome_of(whole, part) for part in ("ours", jobs.DECODING, jobs.MODEL))
    if ours.median and decoding.median and model.median:
        slower = max(decoding.median, model.median)
        note(section, f"job, {name}: speed, x the slower of decoding and model", slower, ours.median)
        busy = ((decoding.median_cpu or 0) + (model.median_cpu or 0)) / threads
        note(section, f"job, {name}: speed, x decoding and model on all processors, nothing else", busy, ours.median)
        for outcome in whole.outcomes:
            outcome.facts["processor seconds"] = outcome.median_cpu


def measure_edge(settings: Settings) -> Section:
    section = Section(
        title="Edge",
        text="Commands from start to exit, file caches warm; sizes are those of a wheel of the last commit.",
    )
    settings.say("edge: starts")
    limits = Limits(rounds=settings.rounds, turn=0.0)
    starts = case_of("From nothing", edge.starts(reference=not settings.quick), limits)
    section.cases.append(starts)
    note(section, "edge: cold start, s", median_of(starts, edge.COLD_START))
    imported, scale = median_of(starts, edge.IMPORT), median_of(starts, edge.NUMPY)
    if imported is not None and scale is not None:
        section.figures["edge: import beyond NumPy, s"] = imported - scale
    note(section, "edge: peak memory, MB", outcome_of(starts, edge.COLD_START).peak_megabytes)
    if not settings.quick:
        settings.say("edge: wheel")
        weighed = prepare(edge.wheel(), MAKE_SECONDS)
        section.facts |= weighed.facts
        if weighed.error is not None:
            section.text += f" No wheel: {weighed.error}."
        note(section, "edge: runtime without models, MB", weighed.facts.get(edge.LEAN))
    return section


def measure_lpips(settings: Settings) -> Section:
    section = Section(
        title="LPIPS",
        text=f"{len(lpips.PAIRS)} pairs of a third of a megapixel from files to distances, float32, {settings.threads} "
        "threads for everyone, networks loaded, ours in one call and pair by pair; then one pair from nothing. MB "
        "installed are those of the packages and all they need, with the CPU build of PyTorch and without torchvision, "
        "which the rival wants too.",
    )
    settings.say("lpips: pairs")
    limits = Limits(rounds=settings.rounds, turn=0.0, load=120, budget=120 if settings.thorough else 40)
    pairs = case_of("Pairs", lpips.contenders(settings.threads), limits, tolerance=lpips.SAME_DISTANCE)
    settings.say("lpips: starts")
    starts = case_of("One pair from nothing", lpips.start_ups(settings.threads), limits)
    section.cases += [pairs, starts]
    for name, case in (("pairs in one call", pairs), ("one pair from nothing", starts)):
        note(section, f"LPIPS, {name}: speed, x PyPI lpips", median_of(case, lpips.RIVAL), median_of(case, lpips.OURS))
    sizes = [outcome_of(pairs, name).facts.get(lpips.SIZE) for name in (lpips.OURS, lpips.RIVAL)]
    note(section, "LPIPS: installed size, x PyPI lpips", *sizes)
    return section


def measure_growth(settings: Settings) -> Section:
    section = Section(
        title="Growth",
        text="The edge model, float32 on ONNX Runtime. Memory and cost by the number of images: one run of iqa-run on "
        "hard links to photographs of 640 to 1280 pixels. By size: JPEGs of each size. By threads: photographs of many "
        "sizes. Drawn in docs/speed.md.",
    )
    artefact = export(settings, EDGE)
    _measure_counts(settings, section, artefact)
    limits = Limits(rounds=1 if settings.quick else 5, turn=0.0, call=300, budget=120)
    for side in growth.SIDES[:2] if settings.quick else growth.SIDES:
        made = make_photographs(settings.photographs / str(side), 9, (side,))
        # A PNG takes its own time to decode.
        photographs = [path for path in made if path.suffix == ".jpg"]
        megapixels = side * side * 2 / 3 / 1e6
        case = _measure_parts(settings, f"{side} pixels", artefact, photographs, settings.threads, limits)
        section.cases.append(case)
        for outcome in case.outcomes:
            if outcome.median is not None:
                cost = 1000 * outcome.median / len(photographs)
                section.series.setdefault(f"size: {outcome.name}", []).append((megapixels, cost))
    photographs = make_photographs(settings.photographs / "mixed", 10 if settings.quick else 40)
    for threads in sorted({1, 2, settings.threads, 2 * settings.threads}):
        case = _measure_parts(settings, f"{threads} threads", artefact, photographs, threads, limits)
        section.cases.append(case)
        for outcome in case.outcomes:
            if outcome.median is not None:
                rate = len(photographs) / outcome.median
                section.series.setdefault(f"threads: {outcome.name}", []).append((float(threads), rate))
    return section


def _measure_parts(
    settings: Settings, name: str, artefact: Path, photographs: list[Path], threads: int, limits: Limits
) -> Case:
    settings.say(f"growth: {name}")
    return case_of(name, jobs.parts(artefact, photographs, threads), limits)


def _measure_counts(settings: Settings, section: Section, artefact: Path) -> None:
    count = 100 if settings.quick else MANY
    settings.say(f"growth: {count} images")
    small = make_photographs(settings.photographs / "small", 20, (640, 1024, 1280))
    many = link_photographs(settings.photographs / "many", small, count)
    rows = settings.artefacts / "growth.jsonl"
    rows.unlink(missing_ok=True)
    memory, cost = growth.watch(artefact, many, rows, settings.threads)
    section.series |= {"memory: iqa-run": memory, "count: iqa-run": cost}
    for done in (10, 50, 100, 500, 1000, MANY):
        milliseconds, megabytes = growth.at(cost, done), growth.at(memory, done)
        if milliseconds is not None and megabytes is not None:
            section.facts[f"ms an image after {done}, start-up included"] = milliseconds
            section.facts[f"MB after {done}"] = megabytes
    if count == MANY:
        note(section, "memory after 5000 images, x after 500", memory[-1][1], growth.at(memory, 500))


SECTIONS: dict[str, Callable[[Settings], Section]] = {
    "patches": measure_patches,
    "resizing": picture_sections.measure_resizing,
    "colors": picture_sections.measure_colors,
    "decoding": picture_sections.measure_decoding,
    "model": measure_networks,
    "job": measure_jobs,
    "phone": picture_sections.measure_phone,
    "edge": measure_edge,
    "lpips": measure_lpips,
    "growth": measure_growth,
}
