"""Score the images of a Hugging Face data set, and keep those that are good enough.

python examples/hugging_face/score_dataset.py ARTEFACT FOLDER|NAME OUTPUT.parquet LEAST_SCORE
"""

import sys
from pathlib import Path

from datasets import Image, Value, load_dataset

from iqa_runtime import Scorer
from iqa_runtime.tables import to_columns

COLUMNS = {"score": Value("float64"), "artefact": Value("string"), "error": Value("string")}


def with_scores(dataset, scorer, column="image"):
    """Return the data set with a column for each of COLUMNS; it may be one that is streamed."""
    # Encoded, as it is stored: decoded by Pillow, some files have other pixels, and all lose their colour profile.
    encoded = dataset.cast_column(column, Image(decode=False))

    def score(batch):
        images = [image and (image["bytes"] or image["path"]) for image in batch[column]]
        columns = to_columns(scorer.score_many(images))
        return {key: columns[key] for key in COLUMNS}

    # The types are given: a first batch without errors would make a column of nulls.
    features = encoded.features.copy()
    features.update(COLUMNS)
    return encoded.map(score, batched=True, batch_size=64, features=features).cast_column(column, Image())


def main():
    artefact, source, output, least = sys.argv[1:] if len(sys.argv) == 5 else sys.exit(__doc__)
    folder = Path(source).is_dir()
    dataset = load_dataset("imagefolder", data_dir=source) if folder else load_dataset(source)
    with Scorer(artefact) as scorer:
        least = float(least)
        sign = 1 if scorer.contract.score.higher_is_better else -1
        scored = with_scores(dataset["train"], scorer)
        kept = scored.filter(lambda score: score is not None and sign * (score - least) >= 0, input_columns="score")
    failed = sum(error is not None for error in scored["error"])
    print(f"{len(scored)} images, {failed} without a score, {len(kept)} kept")
    kept.to_parquet(output)


if __name__ == "__main__":
    main()
