//! Tables without their images: read, merged and looked at for leakage by the program; and what a folder may not do.

mod study;

use std::path::{Path, PathBuf};

use serde_json::Value;
use study::Study;

/// NIH's tables with two views of five patients; images of `there` alone.
fn write_nih(root: &Path, there: &[&str]) {
    let mut table = String::from("Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n");
    for i in 1..=10_usize {
        let (patient, view) = (i.div_ceil(2), ["PA", "AP"][i % 2]);
        table += &format!("{i}.png,{},{patient},50,M,{view}\n", if i % 3 == 0 { "Mass" } else { "No Finding" });
    }
    std::fs::create_dir_all(root.join("images")).unwrap();
    std::fs::write(root.join("Data_Entry_2017.csv"), table).unwrap();
    let list = |range: std::ops::RangeInclusive<u32>| range.map(|i| format!("{i}.png\n")).collect::<String>();
    // Patient 4 stands on both sides.
    std::fs::write(root.join("train_val_list.txt"), list(1..=7)).unwrap();
    std::fs::write(root.join("test_list.txt"), list(8..=10)).unwrap();
    for name in there {
        std::fs::write(root.join("images").join(name), name).unwrap();
    }
}

fn notes(study: &Study, cell: &str) -> Vec<(String, u64, String)> {
    let record: Value = serde_json::from_str(&study.must(&["show", cell, "--json"])).unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_string();
    let notes = record["notes"].as_array().unwrap().iter();
    notes.map(|n| (text(&n["what"]), n["count"].as_u64().unwrap(), text(&n["detail"]))).collect()
}

fn fails(study: &Study, part: &str) {
    let out = study.output(&["run", "x.yaml"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && said.contains(part), "{said}");
    let folder = study.folder.path().to_str().unwrap();
    assert!(!said.contains(&format!("{folder}/.scaleshot/work")), "a path of the work folder: {said}");
}

const KEPT: &str = r#"pipeline: kept
nodes:
  nih: { dataset: { format: nih, root: nih, missing: keep } }
  merged: { merge: { from: nih, leakage: POLICY } }
"#;

#[test]
fn a_table_without_its_images_is_merged_and_looked_at_for_leakage() {
    let study = Study::new(&KEPT.replace("POLICY", "report"));
    write_nih(&study.path("nih"), &["1.png"]);
    study.must(&["run", "x.yaml"]);
    let told = notes(&study, "nih");
    assert!(told.iter().any(|(what, count, _)| what == "absent_images" && *count == 9), "{told:?}");
    let told = notes(&study, "merged");
    let leak = told.iter().find(|(what, ..)| what == "leakage").unwrap();
    assert!(leak.2.contains("1 of 2 patients of test are in train as well") && leak.2.contains("nih:4"), "{told:?}");
    // No picture was decoded, so that nothing is said of near-duplicates, and that is said.
    let unseen = told.iter().find(|(what, ..)| what == "not_looked_at_for_near_duplicates").unwrap();
    assert_eq!(unseen.1, 10);
    std::fs::write(study.path("x.yaml"), KEPT.replace("POLICY", "deny")).unwrap();
    fails(&study, "hint: split by patient");
    // Pictures that are not there cannot be decoded, and are named as any unreadable one is.
    let pixels = "  pixels: { images: { data: nih, size_px: 16 } }\n";
    std::fs::write(study.path("x.yaml"), KEPT.replace("POLICY", "report") + pixels).unwrap();
    fails(&study, "images/");
}

/// The published split of PadChest is drawn over rows, and tears patients apart.
const PADCHEST: &str = r#"pipeline: padchest
nodes:
  padchest: { dataset: { format: padchest, root: tables, missing: keep, blacklist: none, views: [PA, AP, AP Supine, L, COSTAL] } }
  merged: { merge: { from: padchest, leakage: POLICY } }
"#;

#[test]
fn the_program_finds_the_patients_that_padchest_s_published_split_tears_apart() {
    let tables = std::env::var_os("SCALESHOT_REAL_TABLES").filter(|v| !v.is_empty()).map(PathBuf::from);
    let table = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz";
    let Some(table) = tables.map(|t| t.join(table)).filter(|t| t.is_file()) else {
        println!("left out: SCALESHOT_REAL_TABLES has no table of PadChest");
        return;
    };
    let study = Study::new(&PADCHEST.replace("POLICY", "report"));
    std::fs::create_dir(study.path("tables")).unwrap();
    std::fs::copy(&table, study.path("tables").join(table.file_name().unwrap())).unwrap();
    study.must(&["run", "x.yaml"]);
    let told = notes(&study, "merged");
    assert!(
        told.iter().any(|(.., detail)| detail.contains("10963 of 13825 patients of test are in train")),
        "{told:?}"
    );
    std::fs::write(study.path("x.yaml"), PADCHEST.replace("POLICY", "deny")).unwrap();
    fails(&study, "10963 of 13825 patients of test");
    // Drawn over patients, nobody is torn apart.
    let drawn = PADCHEST.replace("leakage: POLICY", "split: { patient: { train: 0.9 } }");
    std::fs::write(study.path("x.yaml"), drawn).unwrap();
    study.must(&["run", "x.yaml"]);
}

#[test]
fn a_source_that_is_merged_twice_is_refused() {
    for from in ["[nih, nih]", "[nih, nih.dataset]"] {
        let study = Study::new(&KEPT.replace("POLICY", "report").replace("from: nih", &format!("from: {from}")));
        write_nih(&study.path("nih"), &[]);
        let out = study.output(&["run", "x.yaml"]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains("nih is named twice"), "{from}: {said}");
    }
}

#[test]
fn a_link_out_of_the_root_blocks_the_dataset_and_says_what_to_do() {
    let study = Study::new(&KEPT.replace("POLICY", "report").replace("missing: keep", "missing: skip"));
    write_nih(&study.path("nih"), &["1.png"]);
    std::fs::write(study.path("secret.png"), "secret").unwrap();
    std::os::unix::fs::symlink(study.path("secret.png"), study.path("nih/images/2.png")).unwrap();
    fails(&study, "symlink leads out of");
    let said = String::from_utf8_lossy(&study.output(&["run", "x.yaml"]).stderr).into_owned();
    assert!(said.contains("2.png") && said.contains("copy what it leads to"), "{said}");
}

#[test]
fn a_wrong_predicate_says_what_is_wrong_and_no_plan() {
    let subset = "  part: { subset: { data: nih, where: \"vieww = 'PA'\", leakage: report } }\n";
    let study = Study::new(&(KEPT.replace("POLICY", "report") + subset));
    write_nih(&study.path("nih"), &[]);
    fails(&study, "unable to find column \"vieww\"");
    let said = String::from_utf8_lossy(&study.output(&["run", "x.yaml"]).stderr).into_owned();
    assert!(!said.contains("SCAN") && !said.contains("predicate.parquet"), "{said}");
}

/// What is expected of bad input.
enum Told {
    /// The run fails with these words.
    Refused(&'static str),
    /// It ends well, and a note has this count and these words.
    Counted(u64, &'static str),
}

/// Every file below a folder but the store's and the reports', with its bytes.
fn outside(study: &Study) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (std::collections::BTreeMap::new(), vec![study.folder.path().to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if [".scaleshot", "reports"].iter().any(|n| path.ends_with(n)) {
                continue;
            } else if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

const TABLE: &str = "nih/Data_Entry_2017.csv";

#[test]
fn bad_input_is_refused_or_counted_as_declared_and_nothing_is_written_outside_the_store() {
    use Told::*;
    let edited = |from: &'static str, to: &'static str| {
        move |study: &Study| {
            let text = std::fs::read_to_string(study.path(TABLE)).unwrap();
            assert!(text.contains(from));
            std::fs::write(study.path(TABLE), text.replacen(from, to, 1)).unwrap();
        }
    };
    let cut_gzip = |study: &Study| {
        let mut table = std::fs::read(study.path(TABLE)).unwrap();
        table = table.repeat(2_000);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        std::io::Write::write_all(&mut gz, &table).unwrap();
        let whole = gz.finish().unwrap();
        std::fs::remove_file(study.path(TABLE)).unwrap();
        std::fs::write(study.path("nih/Data_Entry_2017.csv.gz"), &whole[..whole.len() / 2]).unwrap();
    };
    let cut_row = |study: &Study| {
        let table = std::fs::read(study.path(TABLE)).unwrap();
        std::fs::write(study.path(TABLE), &table[..table.len() - 5]).unwrap();
    };
    let evil_pickle = |study: &Study| {
        std::fs::create_dir(study.path("cifar")).unwrap();
        let touch = b"\x80\x02cposix\nsystem\nU\x0btouch pwned\x85R.";
        ["meta", "train", "test"].iter().for_each(|f| std::fs::write(study.path("cifar").join(f), touch).unwrap());
        let cifar = "pipeline: kept\nnodes:\n  nih: { dataset: { format: cifar100, root: cifar } }\n";
        std::fs::write(study.path("x.yaml"), cifar).unwrap();
    };
    type Spoil<'a> = Box<dyn Fn(&Study) + 'a>;
    let cases: Vec<(&str, Spoil, &str, Told)> = vec![
        ("a cut gzip file", Box::new(cut_gzip), "", Refused("Data_Entry_2017.csv.gz:")),
        ("a cut row", Box::new(cut_row), "", Counted(1, "5 fields where the header has 6 (Data_Entry_2017.csv:11)")),
        (
            "a cut row, strictly",
            Box::new(cut_row),
            ", odd_rows: error",
            Refused("Data_Entry_2017.csv:11: 5 fields where the header has 6"),
        ),
        (
            "a wrong header",
            Box::new(edited("Image Index", "Image Indx")),
            "",
            Refused("Data_Entry_2017.csv:1: missing column Image Index"),
        ),
        ("a missing column", Box::new(edited(",Patient Age", "")), "", Refused("missing column Patient Age")),
        (
            "an id twice",
            Box::new(edited("\n2.png", "\n1.png")),
            "",
            Counted(1, "the image was listed before (Data_Entry_2017.csv:3: "),
        ),
        (
            "an id twice, strictly",
            Box::new(edited("\n2.png", "\n1.png")),
            ", odd_rows: error",
            Refused("Data_Entry_2017.csv:3: the image was listed before: "),
        ),
        (
            "a label that is none",
            Box::new(edited("Mass", "Gout")),
            "",
            Counted(1, "a finding is not one of the 14 (Data_Entry_2017.csv:4: Gout)"),
        ),
        (
            "a label that is none, strictly",
            Box::new(edited("Mass", "Gout")),
            ", odd_rows: error",
            Refused("Data_Entry_2017.csv:4: a finding is not one of the 14: Gout"),
        ),
        (
            "a pickle with code",
            Box::new(evil_pickle),
            "",
            Refused("meta: cannot be read as a pickle: it asks for posix.system"),
        ),
    ];
    for (what, spoil, more, told) in cases {
        let pipeline = KEPT.replace("missing: keep", &format!("missing: keep{more}"));
        let study = Study::new(&pipeline.replace("POLICY", "report"));
        write_nih(&study.path("nih"), &["1.png"]);
        spoil(&study);
        let before = outside(&study);
        match told {
            Refused(words) => fails(&study, words),
            Counted(count, words) => {
                study.must(&["run", "x.yaml"]);
                let notes = notes(&study, "nih");
                assert!(notes.iter().any(|(_, n, detail)| *n == count && detail.contains(words)), "{what}: {notes:?}");
            }
        }
        assert!(outside(&study) == before, "{what}: something was written outside the store");
    }
}
