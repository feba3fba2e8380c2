//! The data path's times and memory, one mode a call: `cargo bench --bench data -- MODE ARGUMENTS`.
//!
//! | mode | does |
//! |---|---|
//! | `trees TABLES OUT` | lays the real label tables out as their datasets are published |
//! | `tables TREES OUT.parquet` | reads the three and merges them into one Parquet file |
//! | `images OUT` | writes generated pictures: JPEG of 500 px, grey JPEG of 2,000 px, grey PNG of 1,024 px |
//! | `shards IMAGES OUT PX` | decodes, resizes and hashes every picture of a folder into a shard |
//! | `decode IMAGES` | decodes every picture of a folder whole, and nothing else |
//! | `batches SHARD EPOCHS` | reads a shard in batches of 64, shuffled, as normalised f32 |
//! | `rows N OUT.parquet` | writes a generated table of N rows |
//! | `merge RULES TABLE OUT.parquet` | merges a table: `plain`, or with `memory`, by rules that remember rows (copies dropped, split by patient, leakage checked) |
//! | `packed N OUT.parquet` | writes a table of N small PNG images with labels |
//! | `near N` | looks N perceptual hashes up among N others |
//!
//! JPEG is decoded in Rust because that measured faster than libjpeg-turbo with its own SIMD, on one core, in
//! images/s of CPU time: 500 px RGB 1,370 against 740 (3.1.2 in OpenCV's wheel) and 660 (3.2.0 in Pillow's);
//! 2,000 px grey 130 against 81 and 83.
//!
//! Each prints one JSON object. It compares with nothing itself: `peers/compare_data.py` does.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use rayon::prelude::*;
use scaleshot::{
    data::{
        augment::View,
        dataset::{Columns, Dataset},
        format::{Format, Read, Skipped},
        image::{
            DecodeRule, Fit, ImageShards, ImageSize, Layout, Loaded, Pixels, Prepare, decode, encode,
            phash::{BITS, Bits},
            write_shard,
        },
        leakage::{Ledger, near::NearIndex},
        loader::{Examples, Labels},
        merge::{MergeSpec, merge_into},
        stream::{ParquetTable, Table, TableWriter},
    },
    error::{Error, Result},
    random::stream::Stream,
};
use serde_json::{Value, json};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let clock = Clock::now();
    let told = match words.as_slice() {
        ["trees", tables, out] => trees(Path::new(tables), Path::new(out)),
        ["tables", trees, out] => tables(Path::new(trees), Path::new(out)),
        ["images", out] => images(Path::new(out)),
        ["shards", folder, out, px] => number(px).and_then(|px| shards(Path::new(folder), Path::new(out), px as u32)),
        ["decode", folder] => decode_only(Path::new(folder)),
        ["batches", shard, epochs] => number(epochs).and_then(|n| batches(Path::new(shard), n)),
        ["rows", n, out] => number(n).and_then(|n| generated_rows(n, Path::new(out))),
        ["merge", rules, table, out] => merge_rows(rules, Path::new(table), Path::new(out)),
        ["packed", n, out] => number(n).and_then(|n| packed(n, Path::new(out))),
        ["near", n] => number(n).and_then(near),
        // `cargo bench` without a mode has nothing to time.
        _ => Ok(json!({})),
    };
    match told {
        Ok(mut told) => {
            let (wall_s, cpu_s) = clock.elapsed();
            told["wall_s"] = told.get("wall_s").cloned().unwrap_or_else(|| wall_s.into());
            told["cpu_s"] = told.get("cpu_s").cloned().unwrap_or_else(|| cpu_s.into());
            told["peak_rss_kib"] = peak_rss_kib().into();
            println!("{told}");
        }
        Err(e) => {
            eprintln!("{words:?}: {e}");
            std::process::exit(1);
        }
    }
}

fn number(text: &str) -> Result<usize> {
    text.parse().map_err(|_| Error::invalid(format!("{text} is not a number")))
}

/// The longest first, so that two threads end together.
const SETS: [(&str, &str, &str); 3] = [
    (
        "padchest",
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
    ),
    ("chexpert", "chexpert_train.csv.gz", "train.csv.gz"),
    ("nih", "Data_Entry_2017_v2020.csv.gz", "Data_Entry_2017_v2020.csv.gz"),
];

fn trees(tables: &Path, out: &Path) -> Result<Value> {
    for (set, from, to) in SETS {
        let folder = out.join(set);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        fs::copy(tables.join(from), folder.join(to)).map_err(Error::io(tables.join(from)))?;
    }
    // NIH's lists of its splits are not in the package: every fifth patient is for the test.
    let table = out.join("nih").join("Data_Entry_2017_v2020.csv.gz");
    let file = fs::File::open(&table).map_err(Error::io(&table))?;
    let mut rows = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    let mut lists = [String::new(), String::new()];
    for row in rows.records() {
        let row = row.map_err(|e| Error::data(&table, None, e.to_string()))?;
        let patient: u32 = row[3].parse().map_err(|_| Error::data(&table, None, "no patient"))?;
        let list = &mut lists[usize::from(patient.is_multiple_of(5))];
        *list += &format!("{}\n", &row[0]);
    }
    for (name, list) in ["train_val_list.txt", "test_list.txt"].iter().zip(lists) {
        fs::write(out.join("nih").join(name), list).map_err(Error::io(out))?;
    }
    Ok(json!({}))
}

fn tables(trees: &Path, out: &Path) -> Result<Value> {
    let read = |(set, ..): &(&str, &str, &str)| -> Result<(String, Dataset)> {
        let mut options = json!({"format": set, "root": trees.join(set), "missing": "keep"});
        if *set == "chexpert" {
            options["splits"] = json!(["train"]);
        }
        let format: Format = serde_json::from_value(options)?;
        Ok((set.to_string(), format.read(&mut Skipped::default())?))
    };
    let clock = Clock::now();
    let parts = SETS.par_iter().map(read).collect::<Result<Vec<_>>>()?;
    let (read_s, _) = clock.elapsed();
    let map = json!({
        "chexpert": {"Pleural Effusion": "Effusion", "Pleural Other": null},
    });
    let mut spec: MergeSpec = serde_json::from_value(json!({"labels": "intersection"}))?;
    let names =
        |set: &str| parts.iter().find(|(n, _)| n == set).map(|(_, d)| d.task().names().to_vec()).unwrap_or_default();
    if names("chexpert").iter().any(|n| n == "Pleural Effusion") {
        spec.map = serde_json::from_value(map)?;
    }
    let views: Vec<(String, &dyn Table)> = parts.iter().map(|(n, d)| (n.clone(), d as &dyn Table)).collect();
    let mut writer = TableWriter::new(out);
    let report = merge_into(&views, &spec, &[], out.parent(), &mut |piece| writer.append(piece))?;
    writer.finish()?;
    let [rows, read] = ["rows_kept", "rows_read"].map(|measure| report.get("total", measure, None));
    Ok(json!({"rows": rows, "read": read, "read_s": read_s}))
}

/// Waves of many lengths, ribs, and grain as of film: as many details as a photograph or an X-ray has.
fn picture(seed: u64, height: u32, width: u32, channels: u32) -> Pixels {
    let mut s = Stream::new(seed, "bench picture", 0, 0);
    let waves: Vec<[f64; 4]> = (0..40)
        .map(|i| {
            let k = 1.5f64.powf(f64::from(i) / 4.0);
            [s.range(-k, k) * 6.3, s.range(-k, k) * 6.3, s.range(0.0, 6.3), 30.0 / (1.0 + k * 0.5)]
        })
        .collect();
    let size = ImageSize { height, width, channels };
    let mut data = Vec::with_capacity(size.bytes());
    let mut across = vec![[0.0f64; 2]; waves.len() * width as usize];
    for (i, [_, kx, ..]) in waves.iter().enumerate() {
        for x in 0..width as usize {
            let (sin, cos) = (kx * x as f64 / f64::from(width)).sin_cos();
            across[i * width as usize + x] = [sin, cos];
        }
    }
    let mut noise = 0x9E37_79B9_7F4A_7C15u64 ^ seed;
    for y in 0..height {
        let down: Vec<(f64, f64)> =
            waves.iter().map(|[ky, _, at, _]| (ky * f64::from(y) / f64::from(height) + at).sin_cos()).collect();
        for x in 0..width as usize {
            let wave: f64 = waves
                .iter()
                .enumerate()
                .map(|(i, w)| {
                    let [sin, cos] = across[i * width as usize + x];
                    w[3] * (down[i].0 * cos + down[i].1 * sin)
                })
                .sum();
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let grain = (noise & 7) as f64 - 3.5;
            for c in 0..channels {
                data.push((120.0 + wave * (1.0 - 0.15 * f64::from(c)) + grain).clamp(0.0, 255.0) as u8);
            }
        }
    }
    Pixels { size, data }
}

fn images(out: &Path) -> Result<Value> {
    let cases: [(&str, u64, u32, u32, u32); 3] =
        [("jpeg-500", 400, 375, 500, 3), ("jpeg-2000", 48, 2_000, 2_000, 1), ("png-1024", 96, 1_024, 1_024, 1)];
    for (name, count, height, width, channels) in cases {
        // Two classes, as ImageFolder wants its images.
        (0..count).into_par_iter().try_for_each(|i| {
            let folder = out.join(name).join(["a", "b"][i as usize % 2]);
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
            let image = picture(i, height, width, channels);
            let (bytes, extension) = match name.split('-').next() {
                Some("png") => (encode::png(&image)?, "png"),
                _ => (encode::jpeg(&image, 90)?, "jpg"),
            };
            let path = folder.join(format!("{i:04}.{extension}"));
            fs::write(&path, bytes).map_err(Error::io(&path))
        })?;
    }
    Ok(json!({}))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for class in ["a", "b"] {
        let class = folder.join(class);
        for entry in fs::read_dir(&class).map_err(Error::io(&class))? {
            found.push(entry.map_err(Error::io(&class))?.path());
        }
    }
    found.sort();
    Ok(found)
}

fn channels(folder: &Path) -> u32 {
    if folder.ends_with("jpeg-500") { 3 } else { 1 }
}

fn shards(folder: &Path, out: &Path, px: u32) -> Result<Value> {
    let files = files(folder)?;
    let decode = DecodeRule { channels: channels(folder), ..Default::default() };
    let prepare = Prepare { px, fit: Fit::Squash, decode, reduce: true };
    // What an earlier round left is no part of this one.
    _ = fs::remove_file(out);
    let clock = Clock::now();
    let outcomes = write_shard(out, &Layout::Pixels(prepare.size()), 0..files.len(), |row| {
        let bytes = fs::read(&files[row]).map_err(Error::io(&files[row]))?;
        let (pixels, phash) = prepare.whole(&bytes)?;
        Ok(Loaded { data: pixels.data, phash })
    })?;
    let lost = outcomes.iter().filter(|o| o.is_err()).count();
    let (wall_s, cpu_s) = clock.elapsed();
    Ok(json!({"images": files.len(), "lost": lost, "wall_s": wall_s, "cpu_s": cpu_s}))
}

fn decode_only(folder: &Path) -> Result<Value> {
    let files = files(folder)?;
    let rule = DecodeRule { channels: channels(folder), ..Default::default() };
    let clock = Clock::now();
    files.par_iter().try_for_each(|file| {
        let bytes = fs::read(file).map_err(Error::io(file))?;
        decode(&bytes, &rule).map(|image| _ = std::hint::black_box(image)).map_err(|e| e.at(file))
    })?;
    let (wall_s, cpu_s) = clock.elapsed();
    Ok(json!({"images": files.len(), "wall_s": wall_s, "cpu_s": cpu_s}))
}

fn batches(shard: &Path, epochs: usize) -> Result<Value> {
    let shards = std::sync::Arc::new(ImageShards::open(&[shard.to_path_buf()])?);
    let n = shards.total();
    let labels = Labels::Class { classes: 2, y: (0..n as i32).map(|i| i % 2).collect() };
    let examples = Examples::new(shards, (0..n as u32).map(|i| (0, i)).collect(), labels)?;
    let (mut out, mut sum, mut seen) = (Vec::new(), 0.0, 0);
    let clock = Clock::now();
    for epoch in 0..epochs {
        let mut order: Vec<u32> = (0..n as u32).collect();
        Stream::new(0, "bench batches", epoch as u64, 0).shuffle(&mut order);
        for batch in order.chunks(64) {
            examples.fill(batch, &View::Stored, &mut out)?;
            sum += f64::from(out[0]);
            seen += batch.len();
        }
    }
    std::hint::black_box(sum);
    let (wall_s, cpu_s) = clock.elapsed();
    Ok(json!({"images": seen, "wall_s": wall_s, "cpu_s": cpu_s}))
}

fn generated_rows(n: usize, out: &Path) -> Result<Value> {
    let mut writer = TableWriter::new(out);
    for start in (0..n).step_by(8_192) {
        let rows = start..(start + 8_192).min(n);
        let label = |k: usize| rows.clone().map(|i| [Some(1), Some(0), None][(i / (k + 1)) % 3]).collect::<Vec<_>>();
        let text = |f: &dyn Fn(usize) -> String| Some(rows.clone().map(|i| Some(f(i))).collect::<Vec<_>>());
        let columns = Columns {
            image: rows.clone().map(|i| format!("images/patient{:06}/study{}/{i:08}.png", i / 3, i % 3)).collect(),
            dataset: "generated".into(),
            patient: text(&|i| format!("generated:{:06}", i / 3)),
            study: text(&|i| format!("generated:{:06}/{}", i / 3, i % 3)),
            view: text(&|i| ["PA", "AP", "L"][i % 3].into()),
            sex: text(&|i| ["F", "M"][i % 2].into()),
            age: Some(rows.clone().map(|i| Some((i % 90) as f32)).collect()),
            labels: (0..14).map(|k| (format!("Finding {k}"), label(k))).collect(),
            ..Default::default()
        };
        let digests: arrow::array::BinaryArray =
            rows.clone().map(|i| Some(scaleshot::digest::Digest::of(&i.to_le_bytes()).0)).collect();
        writer.append(&columns.build()?.with_column("digest", std::sync::Arc::new(digests))?)?;
    }
    writer.finish()?;
    Ok(json!({"rows": n}))
}

fn merge_rows(rules: &str, table: &Path, out: &Path) -> Result<Value> {
    let part = ParquetTable::open(table, |_| true)?;
    let spec: MergeSpec = serde_json::from_value(match rules {
        "memory" => {
            json!({"views": ["PA", "AP"], "duplicates": "drop", "split": {"patient": {"train": 0.8, "valid": 0.1}}})
        }
        _ => json!({"views": ["PA", "AP"]}),
    })?;
    let (mut writer, mut ledger) = (TableWriter::new(out), Ledger::new(out.parent()));
    let report = merge_into(&[("generated".into(), &part as &dyn Table)], &spec, &[], out.parent(), &mut |piece| {
        if rules == "memory" {
            ledger.add(piece)?;
        }
        writer.append(piece)
    })?;
    writer.finish()?;
    let shared = ledger.across_splits()?.len();
    Ok(json!({"rows": part.rows(), "kept": report.get("total", "rows_kept", None), "shared": shared}))
}

fn packed(n: usize, out: &Path) -> Result<Value> {
    use arrow::array::{BinaryArray, Int64Array, RecordBatch};
    let images = (0..64).map(|i| encode::png(&picture(i, 8, 8, 1))).collect::<Result<Vec<_>>>()?;
    let mut writer = None;
    for start in (0..n).step_by(8_192) {
        let rows = start..(start + 8_192).min(n);
        let image: BinaryArray = rows.clone().map(|i| Some(&images[i % 64])).collect();
        let label: Int64Array = rows.map(|i| Some((i % 2) as i64)).collect();
        let batch = RecordBatch::try_from_iter([
            ("image", std::sync::Arc::new(image) as arrow::array::ArrayRef),
            ("label", std::sync::Arc::new(label)),
        ])?;
        if writer.is_none() {
            let file = fs::File::create(out).map_err(Error::io(out))?;
            let groups =
                parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(8_192)).build();
            writer = Some(parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(groups))?);
        }
        writer.as_mut().map(|w| w.write(&batch)).transpose()?;
    }
    writer.map(|w| w.close()).transpose()?;
    Ok(json!({"rows": n}))
}

fn near(n: usize) -> Result<Value> {
    let random = |purpose: &str, i: usize| -> Bits {
        let mut s = Stream::new(1, purpose, 0, i as u64);
        std::array::from_fn(|_| s.bits())
    };
    let hashes: Vec<Bits> = (0..n).into_par_iter().map(|i| random("bench left", i)).collect();
    // Every hundredth is a near-duplicate, 20 bits away.
    let wanted = |i: usize| {
        let mut hash = if i.is_multiple_of(100) { hashes[i] } else { random("bench right", i) };
        if i.is_multiple_of(100) {
            (0..20).for_each(|k| hash[(k * 12 % BITS) / 64] ^= 1 << (k * 12 % 64));
        }
        hash
    };
    let queries: Vec<Bits> = (0..n).into_par_iter().map(wanted).collect();
    let start = Clock::now();
    let index = NearIndex::new(hashes);
    let (index_s, _) = start.elapsed();
    let clock = Clock::now();
    let (found, compared) = queries
        .par_iter()
        .map(|&hash| index.nearest([hash].into_iter()))
        .map(|(near, compared)| (u64::from(near.is_some()), compared))
        .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let (wall_s, cpu_s) = clock.elapsed();
    Ok(json!({
        "hashes": n, "planted": n.div_ceil(100), "found": found, "index_s": index_s, "wall_s": wall_s, "cpu_s": cpu_s,
        "comparisons_per_look_up": compared as f64 / n as f64, "share_of_all_pairs": compared as f64 / (n as f64 * n as f64),
    }))
}

/// The most memory that this process ever held, in KiB.
fn peak_rss_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|l| l.starts_with("VmHWM:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// Wall and processor time since a moment; the latter says more on a machine that others use too.
struct Clock {
    wall: Instant,
    cpu_s: f64,
}

impl Clock {
    fn now() -> Self {
        Clock { wall: Instant::now(), cpu_s: cpu_s() }
    }

    fn elapsed(&self) -> (f64, f64) {
        (self.wall.elapsed().as_secs_f64(), cpu_s() - self.cpu_s)
    }
}

/// Seconds that all threads of this process have run; 0 where the system does not tell.
fn cpu_s() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = |task: fs::DirEntry| -> Option<f64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() / 1e9
}
