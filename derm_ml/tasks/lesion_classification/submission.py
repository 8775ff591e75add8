"""A submission file of ISIC 2017 part 3 for a folder of pictures, labelled or not.

python -m derm_ml.tasks.lesion_classification.submission MODEL ISIC-2017_Test_v2_Data submission.csv
python -m derm_ml.evaluation.isic submission.csv ISIC-2017_Test_v2_Part3_GroundTruth.csv

Age and sex are taken from `<folder>_metadata.csv`, in the folder or beside it, where it exists.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from derm_ml.bundles.classifier import Classifier
from derm_ml.data.sources.attributes import read_facts
from derm_ml.data.sources.image_files import image_files
from derm_ml.evaluation.isic import write_submission
from derm_ml.images.decode import INGEST_FORMATS, decode, read_image_file
from derm_ml.model_folder import bundle_named
from derm_ml.records import DataError
from derm_ml.tree import files_below


def submit(predictor: Classifier, folder: Path, path: Path) -> None:
    """Write `Id,task_1,task_2` (melanoma, seborrheic keratosis) for every picture below `folder`.

    A picture that cannot be read ends it with `ImageError`: a submission has a row for every image or is none.
    """
    # superpixel maps lie beside the pictures in the official folders
    images, _ = image_files(files_below(folder), deep=True)
    files = [folder / name for name in images if "superpixels" not in Path(name).stem]
    if not files:
        raise DataError(f"{folder}: there are no images in it")
    whole = folder.resolve()
    lists = [parent / f"{whole.name}_metadata.csv" for parent in (whole, whole.parent)]
    facts = next((read_facts(path) for path in lists if path.is_file()), {})
    said = np.concatenate(
        [
            predictor([decode(read_image_file(file), INGEST_FORMATS)], [facts.get(file.stem, {})]).probabilities
            for file in track(files, description="predicting")
        ]
    )
    melanoma, keratosis = (said[:, predictor.labels.index(name)] for name in ("melanoma", "seborrheic_keratosis"))
    write_submission(path, [file.stem for file in files], melanoma, keratosis, form="tasks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model folder, as `derm fit` printed it")
    parser.add_argument("folder", type=Path, help="pictures")
    parser.add_argument("submission", type=Path, help="the CSV file to write")
    given = parser.parse_args()
    submit(Classifier(bundle_named(given.model)), given.folder, given.submission)


if __name__ == "__main__":
    main()
