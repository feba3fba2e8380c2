//! Bad input, reader by reader: each case ends in a clear error with file and row, or in a counted skip, as declared.

use std::io::Write;

use super::{Format, Read, Skipped, fixtures};

const CHEXPERT: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices\n";
const NIH: &str = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n";
const PADCHEST: &str =
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Report,Labels\n";
const PADCHEST_TABLE: &str = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv";

fn chexpert(image: &str, cardiomegaly: &str) -> String {
    format!("CheXpert-v1.0/train/{image},Male,50,Frontal,AP,,,{cardiomegaly},,,,,,,,,,,\n")
}

/// What is expected of a case.
enum Told {
    /// An error that holds these words.
    Error(&'static str),
    /// This many rows, and this reason with its count and its first place.
    Counted(usize, &'static str, u64, &'static str),
}

struct Case {
    what: &'static str,
    format: &'static str,
    files: Vec<(String, Vec<u8>)>,
    options: serde_json::Value,
    told: Told,
}

fn case(
    what: &'static str,
    format: &'static str,
    files: &[(&str, &[u8])],
    options: serde_json::Value,
    told: Told,
) -> Case {
    let files = files.iter().map(|(n, b)| (n.to_string(), b.to_vec())).collect();
    Case { what, format, files, options, told }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn every_reader_tells_what_is_wrong_and_where() {
    use Told::*;
    use serde_json::json;
    let keep = || json!({"missing": "keep", "splits": ["train"]});
    let good = chexpert("patient00001/study1/view1_frontal.jpg", "1.0");
    let two = [CHEXPERT, &good, &chexpert("patient00002/study1/view1_frontal.jpg", "0.0")].concat();
    let packed = gz([CHEXPERT, &good.repeat(3000)].concat().as_bytes());
    let cut = &two.as_bytes()[..two.len() - 6];
    let image = "train/patient00001/study1/view1_frontal.jpg";
    let twice = [CHEXPERT, &good, &good].concat();
    let wrong_label = [CHEXPERT, &good, &chexpert("patient00002/study1/view1_frontal.jpg", "7")].concat();
    let wide = format!("{CHEXPERT}{}{}", good.trim_end(), ",surplus\n");
    let wide = wide + &good;
    let strict = || json!({"missing": "keep", "splits": ["train"], "odd_rows": "error"});
    let climbing = [CHEXPERT, &good, &chexpert("../patient00009/study1/view1_frontal.jpg", "1.0")].concat();
    let nih_lists: [(&str, &[u8]); 2] = [("train_val_list.txt", b"a.png\n"), ("test_list.txt", b"")];
    let nih = |rows: &str| [NIH, rows].concat().into_bytes();
    let padchest = |rows: &str| [PADCHEST, rows].concat().into_bytes();
    let cases = [
        case(
            "a gzip file that ends early",
            "chexpert",
            &[("train.csv.gz", &packed[..packed.len() / 2])],
            keep(),
            Error("train.csv.gz:"),
        ),
        case(
            "a table cut off within its last row",
            "chexpert",
            &[("train.csv", cut)],
            keep(),
            Counted(1, "14 fields where the header has 19", 1, "train.csv:3"),
        ),
        case(
            "the same, strictly",
            "chexpert",
            &[("train.csv", cut)],
            strict(),
            Error("train.csv:3: 14 fields where the header has 19"),
        ),
        case(
            "a wrong header",
            "chexpert",
            &[("train.csv", b"Pathe,Sex\n")],
            keep(),
            Error("train.csv:1: missing columns Path, Age"),
        ),
        case(
            "a missing column",
            "nih",
            &[("Data_Entry_2017.csv", b"Image Index,Patient ID\n"), nih_lists[0], nih_lists[1]],
            json!({}),
            Error("Data_Entry_2017.csv:1: missing columns Finding Labels, Patient Age, View Position"),
        ),
        case("an empty file", "chexpert", &[("train.csv", b"")], keep(), Error("train.csv: the file is empty")),
        case(
            "a missing table",
            "padchest",
            &[("x", b"")],
            json!({}),
            Error("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv: no such file"),
        ),
        case(
            "a row too wide",
            "chexpert",
            &[("train.csv", wide.as_bytes())],
            keep(),
            Counted(1, "20 fields where the header has 19", 1, "train.csv:2"),
        ),
        case(
            "an image twice",
            "chexpert",
            &[("train.csv", twice.as_bytes())],
            keep(),
            Counted(1, "the image was listed before", 1, "train.csv:3: train/patient00001/study1/view1_frontal.jpg"),
        ),
        case(
            "a label out of its range",
            "chexpert",
            &[("train.csv", wrong_label.as_bytes())],
            keep(),
            Counted(1, "a label is not 1, 0, -1 or blank", 1, "train.csv:3: Cardiomegaly is 7"),
        ),
        case(
            "the same, strictly",
            "chexpert",
            &[("train.csv", wrong_label.as_bytes())],
            strict(),
            Error("train.csv:3: a label is not 1, 0, -1 or blank: Cardiomegaly is 7"),
        ),
        case(
            "an image that is not there",
            "chexpert",
            &[("train.csv", two.as_bytes()), (image, b"x")],
            json!({"splits": ["train"]}),
            Counted(1, "the image file is missing", 1, "train.csv:3: train/patient00002/study1/view1_frontal.jpg"),
        ),
        case(
            "the same, strictly",
            "chexpert",
            &[("train.csv", two.as_bytes()), (image, b"x")],
            json!({"splits": ["train"], "missing": "error"}),
            Error("train.csv:3: the image file is missing: train/patient00002"),
        ),
        case(
            "a path that climbs out",
            "chexpert",
            &[("train.csv", climbing.as_bytes()), (image, b"x")],
            json!({"splits": ["train"]}),
            Counted(1, "the path leaves the root", 1, "train.csv:3: ../patient00009/study1/view1_frontal.jpg"),
        ),
        case(
            "a finding that is none",
            "nih",
            &[
                ("Data_Entry_2017.csv", &nih("a.png,Edema,0,1,50,M,PA\nb.png,Gout,0,2,50,M,PA\n")),
                nih_lists[0],
                nih_lists[1],
            ],
            json!({"missing": "keep"}),
            Counted(1, "a finding is not one of the 14", 1, "Data_Entry_2017.csv:3: Gout"),
        ),
        case(
            "an image in both lists",
            "nih",
            &[
                ("Data_Entry_2017.csv", &nih("a.png,Edema,0,1,50,M,PA\n")),
                ("train_val_list.txt", b"a.png\n"),
                ("test_list.txt", b"b.png\na.png\n"),
            ],
            json!({}),
            Error("test_list.txt:2: a.png is in both lists"),
        ),
        case(
            "a box of letters",
            "nih",
            &[
                ("Data_Entry_2017.csv", &nih("a.png,Edema,0,1,50,M,PA\n")),
                ("BBox_List_2017.csv", b"Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Edema,1,2,3,x,,,\n"),
                nih_lists[0],
                nih_lists[1],
            ],
            json!({"missing": "keep"}),
            Counted(1, "the box is not four numbers", 1, "BBox_List_2017.csv:2: a.png,Edema,1,2,3,x,,,"),
        ),
        case(
            "a file that is no list of boxes",
            "nih",
            &[
                ("Data_Entry_2017.csv", &nih("a.png,Edema,0,1,50,M,PA\n")),
                ("BBox_List_2017.csv", b"x\n"),
                nih_lists[0],
                nih_lists[1],
            ],
            json!({"missing": "keep"}),
            Error("BBox_List_2017.csv:1: not the list of boxes"),
        ),
        case(
            "a quote that is never closed",
            "padchest",
            &[(PADCHEST_TABLE, &padchest("0,a.png,0,20140915,s1,p1,1930.0,F,PA,\"never closed,['normal']\n"))],
            json!({"missing": "keep"}),
            Error("no row is left"),
        ),
        case(
            "a row that is not UTF-8",
            "padchest",
            &[(
                PADCHEST_TABLE,
                &[
                    padchest("0,a.png,0,20140915,s1,p1,1930.0,F,PA,ok,['normal']\n").as_slice(),
                    b"1,b.png,0,20140915,s1,p1,1930.0,F,PA,\xff\xfe,['normal']\n",
                ]
                .concat(),
            )],
            json!({"missing": "keep"}),
            Counted(1, "the row is not UTF-8", 1, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv:3"),
        ),
        case(
            "a line of three fields",
            "covidx",
            &[("train.txt", b"1 a.png negative nih\n2 b.png negative\n"), ("test.txt", b"")],
            json!({"missing": "keep"}),
            Counted(1, "the line is not PATIENT FILE LABEL SOURCE", 1, "train.txt:2: 2 b.png negative"),
        ),
        case(
            "five fields",
            "covidx",
            &[("train.txt", b"COVID 1 a.png positive sirm\n"), ("test.txt", b"1 b.png perhaps nih\n")],
            json!({"missing": "keep"}),
            Counted(1, "the label is not negative or positive", 1, "test.txt:1: perhaps"),
        ),
        case(
            "a breed without a number",
            "pets",
            &[("annotations/trainval.txt", b"Bengal_2 2 1 1\nBengal 1 1 1\n"), ("annotations/test.txt", b"")],
            json!({"missing": "keep"}),
            Counted(1, "the line is not FILE and three numbers", 1, "trainval.txt:2: Bengal 1 1 1"),
        ),
        case(
            "names that are too few",
            "cifar10",
            &[("batches.meta.txt", b"a\nb\n")],
            json!({}),
            Error("batches.meta.txt: 2 class names, expected 10"),
        ),
        case(
            "a pickle with code",
            "cifar100",
            &[("meta", b"\x80\x02cbuiltins\nexec\nU\x04passd\x85R.")],
            json!({}),
            Error("meta: cannot be read as a pickle: it asks for builtins.exec"),
        ),
        case(
            "a database cut off",
            "caffe_lmdb",
            &[("data.mdb", &fixtures::read("caffe.mdb.gz")[..20_000])],
            json!({}),
            Error("data.mdb: damaged LMDB database"),
        ),
        case(
            "a record cut off",
            "tfrecord",
            &[("x.tfrecord", &fixtures::read("examples.tfrecord")[..300])],
            json!({}),
            Error("x.tfrecord:2: the file ends inside this record"),
        ),
        case(
            "a table that is none",
            "parquet",
            &[("x.parquet", b"PAR1 no")],
            json!({}),
            Error("x.parquet: cannot be read as Parquet"),
        ),
        case(
            "lists that are none",
            "flowers102",
            &[("imagelabels.mat", b"no"), ("setid.mat", b"no")],
            json!({}),
            Error("imagelabels.mat: cannot be read as a .mat file"),
        ),
        case(
            "arrays that are none",
            "medmnist",
            &[("x.npz", b"PK")],
            json!({}),
            Error("x.npz: cannot be read as .npz"),
        ),
        case("no classes", "image_folder", &[("x.png", b"x")], json!({}), Error("no class folders")),
        case("no synsets", "imagenet", &[("cats/x.png", b"x")], json!({}), Error("no folders named after synsets")),
    ];
    for case in cases {
        let files: Vec<(&str, &[u8])> = case.files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        let dir = fixtures::tree(&files);
        let mut json = json!({"format": case.format, "root": dir.path()});
        for (key, value) in case.options.as_object().unwrap() {
            json[key] = value.clone();
        }
        let format: Format = serde_json::from_value(json).unwrap();
        let mut skipped = Skipped::default();
        let read = format.read(&mut skipped);
        match case.told {
            Error(words) => {
                let e = read.err().unwrap_or_else(|| panic!("{}: {} was read", case.format, case.what));
                assert!(e.to_string().contains(words), "{}, {}: {e}", case.format, case.what);
            }
            Counted(rows, what, count, place) => {
                let d = read.unwrap_or_else(|e| panic!("{}, {}: {e}", case.format, case.what));
                let reason = skipped.reasons().iter().find(|r| r.what == what);
                let reason =
                    reason.unwrap_or_else(|| panic!("{}, {}: {:?}", case.format, case.what, skipped.reasons()));
                assert_eq!((d.rows(), reason.count), (rows, count), "{}, {}", case.format, case.what);
                assert_eq!(reason.examples[0], place, "{}, {}", case.format, case.what);
            }
        }
        // A reader writes nothing, whatever it meets.
        assert_eq!(super::shards::files(dir.path(), |_| true).unwrap().len(), {
            let direct = case.files.iter().filter(|(n, _)| n.matches('/').count() < 2);
            direct.count()
        });
    }
}
