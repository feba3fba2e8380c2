"""Writes the first inputs of fuzz/corpus: small, valid files of each format. Needs numpy, pillow, torch, safetensors.

    python fuzz/seed.py

What later runs found worth keeping lies beside them, named by its digest."""
import gzip
import io
import pathlib
import zipfile

import numpy
import torch
from PIL import Image

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent / "tests/fixtures"


def put(target, name, content):
    path = HERE / "corpus" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def fixture(name):
    content = (FIXTURES / name).read_bytes()
    return gzip.decompress(content) if name.endswith(".gz") else content


def pipelines():
    put("pipeline", "study.yaml", """pipeline: s
params: { seeds: [0, 1], lr: { base: 0.03 } }
nodes:
  a: { dataset: { format: fractal, categories: 2, per_category: 4, test_per_category: 2, seed: 3, size_px: 16 } }
  px: { images: { data: a, size_px: 16 } }
  part:
    matrix: { fraction: [0.1, 1.0] }
    subset: { data: px, fraction: "${fraction}" }
  train:
    matrix: { data: { cells: part }, model: [bit-r14x0.25] }
    pretrain: { data: "${data}", model: "${model}", epochs: 1, optimizer: { sgd_agc: { lr: "${params.lr.base}" } } }
  tune:
    matrix: { model: { cells: train }, shots: [1, full], seed: "${params.seeds}", exclude: [ { shots: full, seed: 1 } ] }
    transfer: { model: "${model}", data: px, shots: "${shots}", seed: "${seed}" }
  effect: { compare: { metrics: tune, across: fraction } }
  report: { report: { tables: [tune, effect], plots: [ { kind: shots_curve, x: shots, y: accuracy, color: fraction } ] } }
""")
    put("pipeline", "command.yaml", """pipeline: c
nodes:
  a:
    resources: { threads: 2, memory: 1GiB, timeout_s: 3 }
    command: { run: "echo ${env.HOME:-x} > x", outputs: { t: { type: table, path: x } }, env: { A: 1 } }
  q: { query: { tables: [a], sql: "SELECT 1" } }
""")
    put("pipeline", "anchors.yaml", "pipeline: &a p\nnodes: { a: &n { table: { root: x.csv } }, b: *n, c: { table: { <<: *n } } }\n")


def records():
    key = "17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f"
    blob = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    machine = '"machine":{"cores":2,"cpu":"c","host":"h","memory_bytes":1,"os":"linux"}'
    outputs = '{"table":{"type":"table","files":[{"name":"t.parquet","digest":"%s","bytes":0}]}}' % blob
    put("record", "record.json", '{"cell":"a[x=1]","cpu_ms":1,"finished_unix_ms":1700000000000,"key":"%s","kind":"query",'
        '"kind_version":1,"log":null,%s,"notes":[{"what":"w","count":1,"detail":"d"}],"outputs":%s,"parts":[],'
        '"peak_rss_bytes":1,"pipeline":"p","program":"scaleshot 0.1.0","threads":1,"wall_ms":2}' % (key, machine, outputs))
    put("record", "last.json", '{"a":{"key":"%s","stamp":"s","wall_ms":1,"outputs":%s}}' % (key, outputs))
    put("record", "run.json", '{"pipeline":"p","finished_unix_ms":1,"keys":["%s"]}' % key)
    put("record", "owner.json", '{"owner":{"token":"t","host":"h","machine":"m","pid":1,"pid_start":1,'
        '"started_unix_ms":1,"bound_s":60},"beat":1}')
    put("listing", "store", f"records/{key}.json\nblobs/af/{blob}\nlast/p.json\nruns/00000000000001-aa.json\n"
        f"leases/{key}.json\nowners/t.json\nscratch/{key}/x\nlogs/{key}.log\nlive/run-a\nplans/{key}.json\n"
        f"jobs/{key}/done/000001.json\nmemos/{key}")
    put("listing", "odd", f"records/x.json\nrecords/{key}\nblobs/af/af\nblobs/{blob}\nrecords/{key}.json/x\nblobs\n")


def tables():
    chexpert = ("Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
                "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
                "Fracture,Support Devices\nCheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Male,50,Frontal,AP,"
                ",,1.0,,,-1.0,,,0.0,,,,,\n")
    nih = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
           "a.png,Edema|Mass,0,1,50,M,PA\nb.png,No Finding,0,2,061Y,F,AP\n")
    boxes = "Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Edema,1.5,2,3,4,,,\n"
    padchest = (",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Report,Labels"
                "\n0,a.png,0,20140915,s1,p1,1930.0,F,PA,\"two\nlines\",\"['normal', 'mass']\"\n")
    mimic = ("subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,"
             "Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n"
             "1,2,1.0,,-1.0,0.0,,,,,,,,,,\n")
    metadata = "dicom_id,subject_id,study_id,ViewPosition\na,1,2,PA\n"
    for which, text in enumerate([chexpert, nih, boxes, padchest, "1 a.png positive sirm\nCOVID 2 b.png negative nih\n",
                                  "Bengal_1 1 1 1\n# x\n", mimic, metadata, "image,a,b\nx.png,1,0\ny.png,,1\n"]):
        put("table", f"{which}.csv", bytes([which]) + text.encode())


def images():
    pixels = numpy.arange(8 * 12 * 3, dtype=numpy.uint8).reshape(8, 12, 3)
    for name, image, options in [
        ("rgb.png", Image.fromarray(pixels), {}),
        ("palette.png", Image.fromarray(pixels).quantize(4), {}),
        ("grey16.png", Image.fromarray(pixels[:, :, 0].astype(numpy.uint16) * 257), {}),
        ("rgb.gif", Image.fromarray(pixels).quantize(8), {}),
        ("baseline.jpg", Image.fromarray(pixels), {"quality": 60}),
        ("progressive.jpg", Image.fromarray(pixels), {"quality": 60, "progressive": True}),
        ("grey.jpg", Image.fromarray(pixels[:, :, 0]), {}),
        ("cmyk.jpg", Image.fromarray(pixels).convert("CMYK"), {}),
    ]:
        out = io.BytesIO()
        image.save(out, format=name.rsplit(".")[1].replace("jpg", "jpeg"), **options)
        put("image", name, out.getvalue())
    for name in ["plain", "window", "rle", "jpeg", "inverted"]:
        put("dicom", f"{name}.dcm", fixture(f"dicom_{name}.dcm.gz")[132:])


def weights():
    out = io.BytesIO()
    numpy.savez(out, **{"resnet/root_block/standardized_conv2d/kernel": numpy.zeros((1, 1, 1, 2), numpy.float32),
                        "resnet/group_norm/gamma": numpy.ones(2, numpy.float32)})
    put("npz", "plain.npz", out.getvalue())
    out = io.BytesIO()
    numpy.savez_compressed(out, **{"resnet/head/conv2d/bias": numpy.zeros(3, numpy.float16)})
    put("npz", "packed.npz", out.getvalue())
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,1],"data_offsets":[8,10]}}'
    put("safetensors", "two.safetensors", len(header).to_bytes(8, "little") + header + bytes(10))
    for name, content in [("plain.pth", {"a": torch.zeros(2)}), ("state.pth.tar", {"state_dict": {"a": torch.ones(1, 2).half()}, "n": 3})]:
        out = io.BytesIO()
        torch.save(content, out)
        # Without compression and padding it is a tenth of the size.
        short = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(out.getvalue())) as whole, zipfile.ZipFile(short, "w") as cut:
            for entry in whole.namelist():
                cut.writestr(entry, whole.read(entry))
        put("torch", name, short.getvalue())


def packed():
    for name in ["cifar10_protocol2.pickle.gz", "cifar100_protocol4.pickle.gz"]:
        put("pickle", name[:-3], fixture(name))
    put("packed", "examples.tfrecord", fixture("examples.tfrecord"))
    # The first pages hold the root; what is cut off is found missing.
    put("packed", "caffe.mdb", fixture("caffe.mdb.gz")[:12288])
    for name in ["imagelabels.mat", "setid.mat"]:
        put("mat", name, fixture(name))


pipelines(), records(), tables(), images(), weights(), packed()
