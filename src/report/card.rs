//! Model cards (Mitchell et al. 2019) and datasheets (Gebru et al. 2021), filled in from records.
//!
//! They say what is known by record or by counting; of what is not, they say that it is not.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::Array;
use serde_json::Value;

use super::{
    frame::{self, label},
    lineage::{Ancestor, Lineage},
};
use crate::{
    data::dataset::{Dataset, Task},
    error::{Error, Result},
    eval::statistic::{mean, variance},
    store::{
        Store,
        artifact::{Artifact, ArtifactType, FileRef},
    },
};

const TABLE: &str = "table.parquet";

/// What can be counted in a dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub rows: u64,
    /// Different patients; `None` where the set knows of none.
    pub patients: Option<u64>,
    pub splits: BTreeMap<String, u64>,
    pub datasets: BTreeMap<String, u64>,
    pub views: BTreeMap<String, u64>,
    pub sexes: BTreeMap<String, u64>,
    /// Youngest, mean and oldest, in years.
    pub ages: Option<(f64, f64, f64)>,
    /// Single label: rows of each class.
    pub classes: Vec<(String, u64)>,
    /// Multi label: present, absent and unknown rows of each finding.
    pub labels: Vec<(String, [u64; 3])>,
}

impl Facts {
    pub fn of(data: &Dataset) -> Self {
        let counted = |column: &str| {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for value in data.text(column).into_iter().flat_map(|c| c.iter().flatten()) {
                *counts.entry(value.to_string()).or_default() += 1;
            }
            counts
        };
        let patients = data.text("patient").map(|p| p.iter().flatten().collect::<BTreeSet<&str>>().len() as u64);
        let ages: Vec<f64> = data.ages().into_iter().flat_map(|a| a.iter().flatten()).map(f64::from).collect();
        let (least, most) = ages.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), a| (l.min(*a), m.max(*a)));
        let mut facts = Facts {
            rows: data.rows() as u64,
            patients,
            splits: counted("split"),
            datasets: counted("dataset"),
            views: counted("view"),
            sexes: counted("sex"),
            ages: (!ages.is_empty()).then(|| (least, ages.iter().sum::<f64>() / ages.len() as f64, most)),
            ..Facts::default()
        };
        match data.task() {
            Task::Single(names) => {
                facts.classes = names.iter().map(|n| (n.clone(), 0)).collect();
                for class in data.classes().into_iter().flat_map(|c| c.iter().flatten()) {
                    if let Some(count) = usize::try_from(class).ok().and_then(|c| facts.classes.get_mut(c)) {
                        count.1 += 1;
                    }
                }
            }
            Task::Multi(names) => {
                for name in names {
                    let Some(column) = data.label(name) else { continue };
                    let of = |v: i8| column.iter().flatten().filter(|x| *x == v).count() as u64;
                    facts.labels.push((name.clone(), [of(1), of(0), column.null_count() as u64]));
                }
            }
        }
        facts
    }

    /// `1,017 images of 400 patients (test 200, train 817).`
    pub fn sentence(&self) -> String {
        let mut out = format!("{} images", grouped(self.rows));
        if let Some(patients) = self.patients {
            out.push_str(&format!(" of {} patients", grouped(patients)));
        }
        if !self.splits.is_empty() {
            out.push_str(&format!(" ({})", list(&self.splits)));
        }
        out + "."
    }
}

/// `191,027`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(n, c)| format!("{n} {}", grouped(*c))).collect::<Vec<_>>().join(", ")
}

/// Whether a dataset's images are drawn by this program.
pub fn generated(cell: &Ancestor) -> bool {
    cell.param("format").is_some_and(|f| f == "phantom" || f == "fractal")
}

/// What can be counted in the data of a cell, by its index in a lineage.
pub type Count<'a> = dyn Fn(usize) -> Result<Option<Facts>> + 'a;

/// The dataset table of an artifact, counted; `None` where it holds none.
pub fn facts(store: &Store, cell: &Ancestor) -> Result<Option<Facts>> {
    let of_data = cell.outputs(ArtifactType::Dataset).chain(cell.outputs(ArtifactType::Images)).next();
    let Some(file) = of_data.and_then(|(_, a)| a.file(TABLE)) else { return Ok(None) };
    Ok(Some(Facts::of(&Dataset::read_parquet(&store.local(&file.digest)?, false)?)))
}

fn cell_text(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn provenance(cell: &Ancestor, artifact: &Artifact) -> String {
    format!(
        "## Provenance\n\n- Cell `{}` of kind {} {}, key `{}`\n- Artifact `{}`\n- Computed by {}\n",
        cell.cell,
        cell.record.kind,
        cell.record.kind_version,
        cell.record.key,
        artifact.digest(),
        cell.record.program
    )
}

fn params(cell: &Ancestor) -> String {
    let takes: Vec<&str> = cell.takes.iter().map(|t| t.field.as_str()).collect();
    let rows: Vec<String> = cell
        .params()
        .filter(|(path, _)| !takes.contains(path))
        .map(|(path, value)| format!("| `{path}` | {} |\n", cell_text(&label(value))))
        .collect();
    if rows.is_empty() {
        return "No parameters.\n".into();
    }
    format!("| parameter | value |\n|---|---|\n{}", rows.concat())
}

/// A model card of one model artifact, as Markdown.
///
/// # Errors
/// A blob that is missing or cannot be read.
pub fn model(lineage: &Lineage, at: usize, output: &str, store: &Store, facts: &Count<'_>) -> Result<String> {
    let cell = &lineage.cells[at];
    let artifact =
        cell.record.outputs.get(output).ok_or_else(|| Error::invalid(format!("{} has no {output}", cell.cell)))?;
    let mut out = format!("# Model card: {}\n\n## Model details\n\n", cell.cell);
    let json = |name: &str| -> Result<Value> {
        match artifact.file(name) {
            Some(file) => Ok(serde_json::from_slice(&store.bytes(&file.digest)?)?),
            None => Ok(Value::Null),
        }
    };
    let card = json("model.json")?;
    let words = |key: &str| card[key].as_array().map(|a| a.iter().map(label).collect::<Vec<_>>()).unwrap_or_default();
    let text = |key: &str| card[key].as_str().unwrap_or("not recorded").to_string();
    out.push_str(&format!("- Architecture: {}\n", text("architecture")));
    if let Some(weights) = artifact.file("weights.safetensors") {
        let count = parameters(store, weights)?;
        let size = format!("{:.1} MiB", weights.bytes as f64 / f64::from(1 << 20));
        out.push_str(&format!("- Parameters: {} ({size})\n", count.map_or("not recorded".into(), grouped)));
    }
    let outputs = words("outputs");
    let form = if card["single_label"].as_bool() == Some(false) {
        "findings, each present or absent"
    } else {
        "classes, one an image"
    };
    out.push_str(&format!("- Outputs: {} {form}: {}\n", outputs.len(), cell_text(&outputs.join(", "))));
    if !card["view"].is_null() {
        out.push_str(&format!("- Input: {}, {}\n", seen(&card["view"]), scaled(&card["normalise"])));
    }
    out.push_str("\n## Intended use\n\nResearch on transfer learning. It is no medical device and was not tested as one; decisions about patients must not rest on it.\n");
    out.push_str("\n## Training data\n\n");
    let trained_on = words("trained_on");
    if !trained_on.is_empty() {
        out.push_str(&format!("- Trained on: {}\n", cell_text(&trained_on.join(", "))));
    }
    for taken in &cell.takes {
        let from = &lineage.cells[taken.from];
        let digest = from.record.outputs.get(&taken.output).map(|a| a.digest().short()).unwrap_or_default();
        let size = match taken.field.as_str() {
            "data" | "valid" => facts(taken.from)?.map(|f| format!(": {}", f.sentence())).unwrap_or_default(),
            _ => String::new(),
        };
        out.push_str(&format!("- {}: `{}` (`{digest}`){size}\n", taken.field, from.cell));
    }
    out.push_str(&format!("\n## Training procedure\n\n{}", params(cell)));
    if let Some(last) = last_point(cell, store)? {
        out.push_str(&format!("\nAt the end of training: {last}.\n"));
    }
    out.push_str(&format!("\n## Evaluation\n\n{}", evaluation(lineage, at, store)?));
    out.push_str("\n## Limitations\n\n");
    for note in &cell.record.notes {
        out.push_str(&format!("- {}: {} ({})\n", note.what.replace('_', " "), note.count, note.detail));
    }
    out.push_str("- Numbers hold for the test sets named above; how it fares on other hospitals, devices or populations was not measured.\n- The licences of the training data apply and are not recorded here.\n\n");
    out.push_str(&provenance(cell, artifact));
    Ok(out)
}

/// A view in words.
fn seen(view: &Value) -> String {
    let px = |of: &Value, name: &str| of[name].as_u64().unwrap_or_default();
    match (view.get("whole"), view.get("center")) {
        (Some(whole), _) => format!("RGB images resized to {0} x {0} px", px(whole, "px")),
        (_, Some(c)) => format!(
            "RGB images with a shorter side of {} px, of which the central {px} x {px} px",
            px(c, "resize_px"),
            px = px(c, "px")
        ),
        _ => "RGB images of the size that they are stored in".into(),
    }
}

/// A scaling of grey levels in words.
fn scaled(normalise: &Value) -> String {
    match normalise {
        Value::Null => "grey levels scaled to -1 to 1".into(),
        Value::String(name) if name == "symmetric" => "grey levels scaled to -1 to 1".into(),
        Value::String(name) if name == "imagenet" => {
            "grey levels scaled by ImageNet's means and standard deviations".into()
        }
        own => format!("grey levels less {}, over {}", own["mean"], own["std"]),
    }
}

/// How many numbers a safetensors file holds, from its header.
fn parameters(store: &Store, file: &FileRef) -> Result<Option<u64>> {
    use std::io::Read;
    if store.folder().is_none() {
        // A store behind a URL would send the whole file for the sake of its header.
        return Ok(None);
    }
    let path = store.local(&file.digest)?;
    let mut opened = std::fs::File::open(&path).map_err(Error::io(&path))?;
    let mut length = [0; 8];
    opened.read_exact(&mut length).map_err(Error::io(&path))?;
    let mut header = Vec::new();
    // No header of a sound file is larger; a damaged length must not ask for memory.
    let length = u64::from_le_bytes(length).min(64 << 20);
    opened.take(length).read_to_end(&mut header).map_err(Error::io(&path))?;
    let Ok(Value::Object(tensors)) = serde_json::from_slice(&header) else { return Ok(None) };
    let count = |t: &Value| t["shape"].as_array().map(|s| s.iter().filter_map(Value::as_u64).product::<u64>());
    Ok(Some(tensors.iter().filter(|(name, _)| *name != "__metadata__").filter_map(|(_, t)| count(t)).sum()))
}

/// The last row of a learning curve in words.
fn last_point(cell: &Ancestor, store: &Store) -> Result<Option<String>> {
    let Some(file) = cell.record.outputs.get("curve").and_then(|a| a.file(TABLE)) else { return Ok(None) };
    let curve = frame::read_parquet(&store.local(&file.digest)?)?;
    if curve.height() == 0 {
        return Ok(None);
    }
    let mut told = Vec::new();
    for column in curve.columns() {
        let values = frame::values(&curve, column.name())?;
        match values.last() {
            Some(v) if v.is_f64() => told.push(format!("{} {:.4}", column.name(), v.as_f64().unwrap_or_default())),
            Some(v) if !v.is_null() => told.push(format!("{} {}", column.name(), label(v))),
            _ => {}
        }
    }
    Ok(Some(told.join(", ")))
}

/// Metrics that its own cell and those that took the model measured, over all classes.
fn evaluation(lineage: &Lineage, at: usize, store: &Store) -> Result<String> {
    const SHOWN: [&str; 5] = ["accuracy", "mean_auc", "balanced_accuracy", "log_loss", "ece"];
    let own = std::iter::once(&lineage.cells[at]);
    // Features stand between a model and its probes.
    let features: Vec<usize> = (0..lineage.cells.len())
        .filter(|&i| lineage.cells[i].record.kind == "embed" && lineage.cells[i].takes.iter().any(|t| t.from == at))
        .collect();
    let probes = features.iter().flat_map(|&f| lineage.children(f));
    // Runs that differ in their seed alone are one line, in the order of the first of each.
    let mut lines: Vec<(String, u64, [Vec<f64>; SHOWN.len()])> = Vec::new();
    for cell in own.chain(lineage.children(at)).chain(probes) {
        let Some(file) = cell.record.outputs.get("metrics").and_then(|a| a.file(TABLE)) else { continue };
        let table = frame::read_parquet(&store.local(&file.digest)?)?;
        let (metric, class, value) =
            (frame::values(&table, "metric")?, frame::values(&table, "class")?, frame::values(&table, "value")?);
        let name = without_seed(cell);
        let line = lines.iter().position(|(known, ..)| *known == name).unwrap_or_else(|| {
            lines.push((name, 0, Default::default()));
            lines.len() - 1
        });
        lines[line].1 += 1;
        for (name, values) in SHOWN.iter().zip(&mut lines[line].2) {
            let at = (0..metric.len()).find(|&r| metric[r] == *name && class[r].is_null());
            values.extend(at.and_then(|r| value[r].as_f64()));
        }
    }
    if lines.is_empty() {
        return Ok("No metrics of it are part of this report.\n".into());
    }
    let mut out = format!(
        "| test | runs | {} |\n|---|---:|{}\n",
        SHOWN.map(|s| s.replace('_', " ")).join(" | "),
        "---:|".repeat(SHOWN.len())
    );
    for (name, runs, values) in &lines {
        let told = values.each_ref().map(|values| mean_and_spread(values));
        out.push_str(&format!("| `{}` | {runs} | {} |\n", cell_text(name), told.join(" | ")));
    }
    if lines.iter().any(|(_, runs, _)| *runs > 1) {
        out.push_str("\nRuns differ in their seed; ± is one standard deviation (n - 1) between them.\n");
    }
    Ok(out)
}

/// The cell's name without its seed: `transfer[shots=5]`.
fn without_seed(cell: &Ancestor) -> String {
    let axes: Vec<String> =
        cell.axes.iter().filter(|(n, _)| n != "seed").map(|(n, v)| format!("{n}={}", label(v))).collect();
    if axes.is_empty() { cell.node.clone() } else { format!("{}[{}]", cell.node, axes.join(",")) }
}

/// `0.512 ± 0.031`, one value by itself, or a dash.
fn mean_and_spread(values: &[f64]) -> String {
    match (mean(values), variance(values)) {
        (Some(mean), Some(variance)) => format!("{mean:.3} ± {:.3}", variance.sqrt()),
        (Some(one), None) => format!("{one:.3}"),
        (None, _) => "–".into(),
    }
}

/// A datasheet of one dataset artifact, as Markdown.
///
/// # Errors
/// A blob that is missing or cannot be read.
pub fn datasheet(lineage: &Lineage, at: usize, output: &str, store: &Store, facts: &Count<'_>) -> Result<String> {
    let cell = &lineage.cells[at];
    let artifact =
        cell.record.outputs.get(output).ok_or_else(|| Error::invalid(format!("{} has no {output}", cell.cell)))?;
    let mut out = format!(
        "# Datasheet: {}\n\n## Motivation\n\nMade for the study `{}`; why its sources were collected is told by their authors.\n\n## Composition\n\n",
        cell.cell, lineage.pipeline
    );
    if let Some(facts) = facts(at)? {
        out.push_str(&format!("- {}\n", facts.sentence()));
        let counts = [("From", &facts.datasets), ("Views", &facts.views), ("Sex", &facts.sexes)];
        for (name, counts) in counts.into_iter().filter(|(_, c)| !c.is_empty()) {
            out.push_str(&format!("- {name}: {}\n", list(counts)));
        }
        if let Some((least, mean, most)) = facts.ages {
            out.push_str(&format!("- Age: {least:.0} to {most:.0} years, mean {mean:.1}\n"));
        }
        if !facts.classes.is_empty() {
            out.push_str("\n| class | images |\n|---|---:|\n");
            facts.classes.iter().for_each(|(n, c)| out.push_str(&format!("| {} | {} |\n", cell_text(n), grouped(*c))));
        }
        if !facts.labels.is_empty() {
            out.push_str("\n| finding | present | absent | unknown |\n|---|---:|---:|---:|\n");
            for (name, [present, absent, unknown]) in &facts.labels {
                let counts = [present, absent, unknown].map(|c| grouped(*c)).join(" | ");
                out.push_str(&format!("| {} | {counts} |\n", cell_text(name)));
            }
            out.push_str("\nUnknown labels are left out of losses and metrics; they never count as absent.\n");
        }
    }
    out.push_str("\n## Collection\n\n");
    for root in lineage.roots(at) {
        let root = &lineage.cells[root];
        let format = root.param("format").map(label).unwrap_or_else(|| root.record.kind.clone());
        let layout = root.param("layout").map(|l| format!(", layout {}", label(l))).unwrap_or_default();
        let files: Vec<String> = root
            .sources()
            .map(|(_, digest, files, bytes)| {
                format!(
                    "{} files, {:.1} MiB, listing `{}`",
                    grouped(files),
                    bytes as f64 / f64::from(1 << 20),
                    digest.short()
                )
            })
            .collect();
        let made = if generated(root) { "generated by this program" } else { "as published" };
        let from = if files.is_empty() { made.to_string() } else { files.join("; ") };
        out.push_str(&format!("- `{}`: format {format}{layout} ({from})\n", root.cell));
    }
    out.push_str(&format!("\n## Preprocessing\n\n{}", params(cell)));
    if let Some(file) = cell.record.outputs.get("sources").and_then(|a| a.file(TABLE)) {
        out.push_str(&format!("\n{}", origins(&frame::read_parquet(&store.local(&file.digest)?)?)?));
    }
    for note in &cell.record.notes {
        out.push_str(&format!("\n- {}: {} ({})", note.what.replace('_', " "), note.count, note.detail));
    }
    out.push_str("\n## Uses\n\nPre-training and evaluation in this study. Labels that were mined from reports hold their errors.\n\n## Distribution and maintenance\n\nThe sources keep their licences and terms, which are not recorded here; this set is a table over them and is made again by the pipeline.\n\n");
    out.push_str(&provenance(cell, artifact));
    Ok(out)
}

/// The table of a merge, one row a source and one column a measure; what is counted by item is left to the file.
fn origins(table: &frame::Frame) -> Result<String> {
    let column = |name: &str| frame::values(table, name);
    let (source, measure, item, count) = (column("source")?, column("measure")?, column("item")?, column("count")?);
    let mut measures: Vec<String> = Vec::new();
    let mut rows: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for row in (0..table.height()).filter(|&r| item[r].is_null()) {
        let (name, what) = (label(&source[row]), label(&measure[row]));
        if !measures.contains(&what) {
            measures.push(what.clone());
        }
        let at = rows.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
            rows.push((name, BTreeMap::new()));
            rows.len() - 1
        });
        rows[at].1.insert(what, count[row].as_u64().map_or(label(&count[row]), grouped));
    }
    let heads: Vec<String> = measures.iter().map(|m| m.replace('_', " ")).collect();
    let mut out = format!("| source | {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(measures.len()));
    for (name, counts) in rows {
        let cells: Vec<String> = measures.iter().map(|m| counts.get(m).cloned().unwrap_or("0".into())).collect();
        out.push_str(&format!("| {} | {} |\n", cell_text(&name), cells.join(" | ")));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Columns;

    #[test]
    fn facts_are_counted_and_unknown_is_no_absence() {
        let data = Columns {
            image: vec!["a".into(), "b".into(), "c".into()],
            dataset: "nih".into(),
            split: Some(vec![Some("train".into()), Some("train".into()), Some("test".into())]),
            patient: Some(vec![Some("1".into()), Some("1".into()), None]),
            age: Some(vec![Some(20.0), Some(40.0), None]),
            labels: vec![("Effusion".into(), vec![Some(1), Some(0), None])],
            ..Default::default()
        }
        .build()
        .unwrap();
        let facts = Facts::of(&data);
        assert_eq!((facts.rows, facts.patients), (3, Some(1)));
        assert_eq!(facts.labels, [("Effusion".to_string(), [1, 1, 1])]);
        assert_eq!(facts.ages, Some((20.0, 30.0, 40.0)));
        assert_eq!(facts.sentence(), "3 images of 1 patients (test 1, train 2).");
        assert_eq!([7, 1_000, 191_027].map(grouped), ["7", "1,000", "191,027"]);
    }

    #[test]
    fn inputs_and_spreads_are_said_in_words() {
        use serde_json::json;
        assert_eq!(seen(&json!("stored")), "RGB images of the size that they are stored in");
        assert_eq!(seen(&json!({"whole": {"px": 480}})), "RGB images resized to 480 x 480 px");
        let centre = seen(&json!({"center": {"resize_px": 256, "px": 224}}));
        assert_eq!(centre, "RGB images with a shorter side of 256 px, of which the central 224 x 224 px");
        assert_eq!(scaled(&Value::Null), scaled(&json!("symmetric")));
        assert!(
            scaled(&json!("imagenet")).contains("ImageNet")
                && scaled(&json!({"mean": [0], "std": [1]})).contains("[0]")
        );
        assert_eq!([&[][..], &[0.5], &[0.5, 0.6]].map(mean_and_spread), ["–", "0.500", "0.550 ± 0.071"]);
    }
}
