"""The published readers on the real tables, and their concatenation: NIH, CheXpert and PadChest of torchxrayvision,
every view, relabelled to the labels that all have. Nothing is written. Prints one JSON object."""
import json
import resource
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import pandas as pd
import torchxrayvision as xrv


def main(trees):
    start, cpu = time.perf_counter(), time.process_time()
    views = dict(views=["*"], unique_patients=False)
    sets = [
        xrv.datasets.CheX_Dataset(trees, csvpath=f"{trees}/chexpert/train.csv.gz", **views),
        xrv.datasets.NIH_Dataset(trees, csvpath=f"{trees}/nih/Data_Entry_2017_v2020.csv.gz", **views),
        xrv.datasets.PC_Dataset(
            trees, csvpath=f"{trees}/padchest/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", **views
        ),
    ]
    shared = sorted(set.intersection(*(set(d.pathologies) for d in sets)))
    frames = []
    for d in sets:
        columns = [list(d.pathologies).index(p) for p in shared]
        frame = pd.DataFrame(np.asarray(d.labels)[:, columns], columns=shared)
        for name in ("patientid", "view", "age_years", "sex_male"):
            frame[name] = d.csv[name].values if name in d.csv else None
        frames.append(frame)
    merged = pd.concat(frames, ignore_index=True)
    print(json.dumps({
        "rows": len(merged),
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "peak_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "version": f"torchxrayvision {xrv.__version__}, pandas {pd.__version__}",
    }))


main(sys.argv[1])
