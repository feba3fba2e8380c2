//! Shards of images: made once, remade only where a file changed, kept through a kill; what cannot be read is said.

mod study;

use scaleshot::{
    data::{
        dataset::Dataset,
        image::{GreyRule, ImageShards, ImageSize, Pixels, encode, phash},
    },
    store::{Store, artifact::Artifact},
};
use study::Study;

/// 200 px, so that a shard of 1 MiB holds 8 images.
const FOLDER: &str = r#"pipeline: folder
nodes:
  photos: { dataset: { format: image_folder, root: photos } }
  pixels: { images: { data: photos, size_px: 200, shard_mib: 1 } }
"#;

/// A soft picture, another one for every seed.
fn picture(seed: u64, height: u32, width: u32) -> Pixels {
    let size = ImageSize { height, width, channels: 1 };
    let (a, b) = (1.0 + (seed * 37 % 11) as f64, 1.0 + (seed * 53 % 13) as f64);
    let data = (0..size.bytes() as u32).map(|i| {
        let (y, x) = (f64::from(i / width) / f64::from(height), f64::from(i % width) / f64::from(width));
        (128.0 + 60.0 * (a * 3.0 * x + seed as f64).sin() + 60.0 * (b * 3.0 * y - x * a).cos()) as u8
    });
    Pixels { size, data: data.collect() }
}

fn write_photos(study: &Study, count: u64) {
    for i in 0..count {
        let class = study.path(if i % 2 == 0 { "photos/train/cat" } else { "photos/train/dog" });
        std::fs::create_dir_all(&class).unwrap();
        std::fs::write(class.join(format!("{i:03}.png")), encode::png(&picture(i, 30, 44)).unwrap()).unwrap();
    }
}

fn pixels(study: &Study, node: &str) -> Artifact {
    let store = Store::open(study.path(".scaleshot")).unwrap();
    let pipeline = std::fs::read_to_string(study.path("x.yaml")).unwrap();
    let name = pipeline.lines().next().unwrap().split(' ').nth(1).unwrap().to_string();
    store.last(&name).unwrap()[node].outputs["images"].clone()
}

fn open(study: &Study, artifact: &Artifact) -> (Dataset, ImageShards) {
    let store = Store::open(study.path(".scaleshot")).unwrap();
    let local = |name: &str| store.local(&artifact.file(name).unwrap().digest).unwrap();
    let shards = artifact.files.iter().filter(|f| f.name.starts_with("shard-")).map(|f| local(&f.name));
    let shards = ImageShards::open(&shards.collect::<Vec<_>>()).unwrap();
    (Dataset::read_parquet(&local("table.parquet"), false).unwrap(), shards)
}

/// The last line of this form in the store's logs: how many images were decoded, and how many were there.
fn decoded(study: &Study) -> (usize, usize) {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(study.path(".scaleshot/logs")).unwrap() {
        let path = entry.unwrap().path();
        let time = path.metadata().unwrap().modified().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|l| l.contains(" images decoded; ")) {
            let numbers: Vec<usize> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
            found.push((time, (numbers[numbers.len() - 3], numbers[numbers.len() - 2])));
        }
    }
    found.sort_by_key(|(time, _)| *time);
    found.last().unwrap().1
}

fn shard_digests(artifact: &Artifact) -> Vec<String> {
    artifact.files.iter().filter(|f| f.name.starts_with("shard-")).map(|f| f.digest.hex()).collect()
}

#[test]
fn a_changed_file_is_decoded_again_with_its_shard_and_nothing_else() {
    let study = Study::new(FOLDER);
    write_photos(&study, 60);
    study.must(&["run", "x.yaml"]);
    let before = shard_digests(&pixels(&study, "pixels"));
    assert!(before.len() >= 7, "{} shards of at most 8 images", before.len());
    assert_eq!(decoded(&study), (60, 0));

    let changed = study.path("photos/train/cat/030.png");
    std::fs::write(&changed, encode::png(&picture(500, 30, 44)).unwrap()).unwrap();
    study.must(&["run", "x.yaml"]);
    let after = shard_digests(&pixels(&study, "pixels"));
    let kept = after.iter().filter(|d| before.contains(d)).count();
    assert_eq!((after.len(), kept), (before.len(), before.len() - 1));
    let (again, known) = decoded(&study);
    assert!(again <= 8 && known == 60 - again, "{again} decoded again, {known} were there");

    // A new file at the beginning moves every row, and still leaves most shards.
    std::fs::write(study.path("photos/train/cat/000a.png"), encode::png(&picture(501, 30, 44)).unwrap()).unwrap();
    study.must(&["run", "x.yaml"]);
    let (again, known) = decoded(&study);
    assert!(again + known == 61 && again <= 40, "{again} decoded again, {known} were there");
    let (table, shards) = open(&study, &pixels(&study, "pixels"));
    assert_eq!((table.rows(), shards.total()), (61, 61));
}

#[test]
fn shards_outlive_a_kill_and_the_result_is_the_same() {
    let whole = Study::new(FOLDER);
    write_photos(&whole, 60);
    whole.must(&["run", "x.yaml"]);
    let killed = Study::new(FOLDER);
    write_photos(&killed, 60);
    let out = killed.command(&["run", "x.yaml"]).env("SCALESHOT_FAULT", "blob.published:5").output().unwrap();
    assert!(!out.status.success(), "the fault did not end the program");
    killed.must(&["run", "x.yaml"]);
    let (again, known) = decoded(&killed);
    assert!(known >= 8 && again + known == 60, "{again} decoded again, {known} were there");
    assert_eq!(pixels(&killed, "pixels"), pixels(&whole, "pixels"));
}

#[test]
fn unreadable_images_are_named_and_left_out_or_end_the_cell() {
    let study = Study::new(&FOLDER.replace("shard_mib: 1", "shard_mib: 1, unreadable: skip"));
    write_photos(&study, 20);
    let png = std::fs::read(study.path("photos/train/cat/004.png")).unwrap();
    std::fs::write(study.path("photos/train/cat/004.png"), &png[..png.len() / 2]).unwrap();
    std::fs::write(study.path("photos/train/dog/007.png"), "<html>not found</html>").unwrap();
    // Two gigabytes of a PNG, most of them a hole: refused by its length, never read into memory.
    let long = std::fs::File::create(study.path("photos/train/dog/011.png")).unwrap();
    std::io::Write::write_all(&mut &long, &png).unwrap();
    long.set_len(2 << 30).unwrap();
    // A JPEG by the name of a PNG is an image like others.
    let image = picture(9, 30, 44).with_channels(3, GreyRule::Luma);
    std::fs::write(study.path("photos/train/dog/009.png"), encode::jpeg(&image, 90).unwrap()).unwrap();
    study.must(&["run", "x.yaml"]);
    let record: serde_json::Value = serde_json::from_str(&study.must(&["show", "pixels", "--json"])).unwrap();
    let note = record["notes"].as_array().unwrap().iter().find(|n| n["what"] == "unreadable_images").unwrap();
    assert_eq!(note["count"], 3);
    let detail = note["detail"].as_str().unwrap();
    assert!(detail.contains("004.png: PNG image ends early") && detail.contains("007.png: not a JPEG"), "{detail}");
    assert!(detail.contains("011.png: the file has 2147483648 bytes, more than the"), "{detail}");
    assert!(!detail.contains(study.folder.path().to_str().unwrap()), "a path of this machine: {detail}");
    let (table, shards) = open(&study, &pixels(&study, "pixels"));
    assert_eq!((table.rows(), shards.total()), (17, 17));
    let names: Vec<&str> = table.images().unwrap().iter().flatten().collect();
    assert!(!names.iter().any(|n| ["004.png", "007.png", "011.png"].iter().any(|lost| n.ends_with(lost))));
    for (i, name) in names.iter().enumerate() {
        let place = |c: &str| table.integers(c).unwrap().value(i);
        assert!(shards.get(place("shard"), place("slot")).unwrap().iter().any(|&v| v > 0), "{name} is black");
    }

    std::fs::write(study.path("x.yaml"), FOLDER).unwrap();
    let out = study.output(&["run", "x.yaml"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && said.contains("004.png: PNG image ends early"), "{said}");
}

#[test]
fn a_record_of_cifar_that_is_cut_off_is_counted_and_the_others_are_decoded() {
    let study = Study::new(&FOLDER.replace("format: image_folder, root: photos", "format: cifar10, root: photos"));
    std::fs::create_dir(study.path("photos")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(study.path("photos").join(name), bytes).unwrap();
    write("batches.meta.txt", (0..10).map(|i| format!("c{i}\n")).collect::<String>().as_bytes());
    for batch in 1..=6_u8 {
        let name = if batch == 6 { "test_batch.bin".into() } else { format!("data_batch_{batch}.bin") };
        let records: Vec<u8> = (1..=3).flat_map(|i| [vec![batch], vec![40 * i + batch; 3072]].concat()).collect();
        write(&name, &records[..records.len() - if batch == 2 { 100 } else { 0 }]);
    }
    study.must(&["run", "x.yaml"]);
    let record: serde_json::Value = serde_json::from_str(&study.must(&["show", "photos", "--json"])).unwrap();
    let notes = record["notes"].to_string();
    assert!(notes.contains("the record is cut off (data_batch_2.bin:3: 2973 of 3073 bytes)"), "{notes}");
    let (table, shards) = open(&study, &pixels(&study, "pixels"));
    assert_eq!((table.rows(), shards.total()), (17, 17));
    for i in 0..17 {
        let (file, record) = (table.images().unwrap().value(i), table.integers("record").unwrap().value(i) as u8);
        let batch = table.classes().unwrap().value(i) as u8;
        assert!(file.contains(if batch == 6 { "test".into() } else { batch.to_string() }.as_str()), "{file}");
        let place = |c: &str| table.integers(c).unwrap().value(i);
        let seen = shards.get(place("shard"), place("slot")).unwrap();
        assert!(seen.iter().all(|&v| v == 40 * (record + 1) + batch), "{file}#{record}");
    }
}

#[test]
fn a_set_of_which_no_image_can_be_read_is_an_error() {
    let study = Study::new(&FOLDER.replace("shard_mib: 1", "shard_mib: 1, unreadable: skip"));
    std::fs::create_dir_all(study.path("photos/train/cat")).unwrap();
    for name in ["a.png", "b.png"] {
        std::fs::write(study.path("photos/train/cat").join(name), "<html>not found</html>").unwrap();
    }
    let out = study.output(&["run", "x.yaml"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && said.contains("none of the 2 images can be read"), "{said}");
    assert!(said.contains("a.png: not a JPEG"), "{said}");
}

/// A colour picture becomes grey by luma, or by its first channel as torchxrayvision takes it.
#[test]
fn grey_is_luma_or_the_first_channel_as_declared() {
    let nodes = FOLDER.replace("shard_mib: 1", "channels: 1");
    let first = "  first: { images: { data: photos, size_px: 200, channels: 1, grey: first } }\n";
    let study = Study::new(&(nodes + first));
    let size = ImageSize { height: 20, width: 20, channels: 3 };
    let red = Pixels { size, data: [200, 40, 10].repeat(400) };
    std::fs::create_dir_all(study.path("photos/train/cat")).unwrap();
    std::fs::write(study.path("photos/train/cat/a.png"), encode::png(&red).unwrap()).unwrap();
    study.must(&["run", "x.yaml"]);
    for (node, grey) in [("pixels", 84), ("first", 200)] {
        let (_, shards) = open(&study, &pixels(&study, node));
        assert_eq!(shards.get(0, 0).unwrap()[0], grey, "{node}");
    }
}

/// Merged before any image is decoded, near-duplicates are found by the node that decodes them.
#[test]
fn images_look_for_near_duplicates_across_splits() {
    let near = FOLDER.replace("shard_mib: 1", "LEAK") + "  merged: { merge: { from: photos } }\n";
    let near = near.replace("data: photos", "data: merged");
    let study = Study::new(&near.replace(", LEAK", ""));
    for (split, seeds) in [("train", 0..6), ("test", 5..8)] {
        let class = study.path("photos").join(split).join("cat");
        std::fs::create_dir_all(&class).unwrap();
        for seed in seeds {
            // The same picture is another file in the other split: saved as JPEG there.
            let image = picture(seed, 90, 120);
            let bytes = if split == "train" { encode::png(&image).unwrap() } else { encode::jpeg(&image, 85).unwrap() };
            std::fs::write(class.join(format!("{seed:03}.png")), bytes).unwrap();
        }
    }
    let noted = |node: &str| {
        let record: serde_json::Value = serde_json::from_str(&study.must(&["show", node, "--json"])).unwrap();
        record["notes"].to_string()
    };
    study.must(&["run", "x.yaml"]);
    assert!(noted("merged").contains("not_looked_at_for_near_duplicates"), "{}", noted("merged"));
    assert!(
        noted("pixels").contains("1 near-duplicates: test/cat/005.png like train/cat/005.png"),
        "{}",
        noted("pixels")
    );
    std::fs::write(study.path("x.yaml"), near.replace("LEAK", "leakage: deny")).unwrap();
    let out = study.output(&["run", "x.yaml"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && said.contains("hint: put near-duplicates into a blacklist"), "{said}");
    // Decoded once: what is looked for changes no shard.
    assert_eq!(decoded(&study).0, 0);
    std::fs::write(study.path("x.yaml"), near.replace("LEAK", "leakage: allow")).unwrap();
    study.must(&["run", "x.yaml"]);
    assert!(!noted("pixels").contains("leakage"), "{}", noted("pixels"));
}

const ENCODED: &str = r#"pipeline: encoded
nodes:
  nih: { dataset: { format: phantom, layout: nih, patients: 40, seed: 2, size_px: 48 } }
  pixels: { images: { data: nih, size_px: 24, unreadable: skip } }
  files: { images: { data: nih, size_px: 24, unreadable: skip, store: encoded, shard_mib: 1 } }
  pretrain:
    pretrain:
      data: files
      model: bit-r14x0.25
      epochs: 1
      batch: 8
      augment: { random_resized_crop: { scale: [0.3, 1.0] } }
      optimizer: { sgd_agc: { lr: 0.1 } }
  by_pixels: { evaluate: { model: pretrain, data: pixels } }
  by_files: { evaluate: { model: pretrain, data: files } }
"#;

#[test]
fn encoded_images_are_decoded_on_the_fly_and_evaluate_as_pixels_do() {
    let study = Study::new(ENCODED);
    study.must(&["run", "x.yaml"]);
    let store = Store::open(study.path(".scaleshot")).unwrap();
    let last = store.last("encoded").unwrap();
    let table = |node: &str| last[node].outputs["predictions"].file("table.parquet").unwrap().digest;
    assert_eq!(table("by_pixels"), table("by_files"), "a stored view is the same whatever is stored");
    let (rows, shards) = open(&study, &last["files"].outputs["images"]);
    assert_eq!(shards.size(), ImageSize { height: 24, width: 24, channels: 3 });
    let place = |c: &str| rows.integers(c).unwrap().value(3);
    let bytes = shards.encoded(place("shard"), place("slot")).unwrap().unwrap();
    assert_eq!(scaleshot::digest::Digest::of(bytes).0, rows.binary("digest").unwrap().value(3), "the file itself");
    let largest = last["files"].outputs["images"].files.iter().map(|f| f.bytes).max().unwrap();
    assert!(largest < 1 << 21, "a shard of {largest} bytes");
}

#[test]
fn every_decoded_image_has_a_perceptual_hash() {
    let study = Study::new(FOLDER);
    write_photos(&study, 12);
    study.must(&["run", "x.yaml"]);
    let (table, _) = open(&study, &pixels(&study, "pixels"));
    let hashes = table.binary(phash::COLUMN).unwrap();
    assert!(hashes.iter().all(|h| h.is_some_and(|h| h.len() == phash::WHOLE)));
}
