"""Score a folder of images with Spark: python spark_scores.py ARTEFACT FOLDER OUTPUT.

Each task opens the artefact once, and scores on one thread, as Spark gives a task one core.
"""

import sys

import pandas
from pyspark.sql import SparkSession

from iqa_runtime import Scorer
from iqa_runtime.images.named import StoredImage
from iqa_runtime.tables import to_columns

KEPT = "path string, score double, percentile double, width int, height int, artefact string, error string"


def main():
    artefact, folder, output = sys.argv[1:] if len(sys.argv) == 4 else sys.exit(__doc__)

    def scored(batches):
        with Scorer(artefact, threads=1) as scorer:
            for batch in batches:
                images = map(StoredImage, batch["path"], batch["content"])
                rows = pandas.DataFrame(to_columns(scorer.score_many(images)))
                yield rows[[column.split()[0] for column in KEPT.split(", ")]]

    spark = SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 64).getOrCreate()
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(folder)
    files.select("path", "content").mapInPandas(scored, KEPT).write.parquet(output)
    spark.stop()


if __name__ == "__main__":
    main()
