//! Parquet tables of images: this program's own dataset tables, and tables that hold the encoded images
//! themselves, as Hugging Face writes them (`data/train-00000-of-00005.parquet`).
//!
//! | table | image | class |
//! |---|---|---|
//! | own | text column `image`, a path below the root, or `bytes` | `class` or `label:NAME`, as in [`crate::data::dataset`] |
//! | other | binary column, or a struct with the field `bytes` | the column `label`: a number or a text |
//!
//! Names of numbered classes come from the file's Hugging Face metadata where it has them. Tables whose images lie
//! in other files than below the root, and lists of labels, are not read.

use std::path::{Path, PathBuf};

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Int64Type, Schema},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Missing, OddRows, Read, Skipped,
    classes::{Entry, Label, Set},
    layout::Clues,
    parquet_images, rows, shards,
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
};

/// Parquet tables of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds the tables, itself or in folders one level down. A file whose name has the word train,
    /// val, validation or test is of that split.
    pub root: PathBuf,
    /// Name of the set in the column `dataset` (own tables keep theirs).
    #[serde(default = "name")]
    pub name: String,
    /// The column of classes, in tables that are not this program's own.
    #[serde(default = "label")]
    pub label: String,
    /// Rows without an image or a class, or whose class is out of range.
    #[serde(default)]
    pub odd_rows: OddRows,
    /// Rows of own tables whose image file does not exist.
    #[serde(default)]
    pub missing: Missing,
}

fn name() -> String {
    "parquet".into()
}

fn label() -> String {
    "label".into()
}

fn files(root: &Path) -> Result<Vec<String>> {
    shards::files(root, |name| name.ends_with(".parquet"))
}

pub(super) fn looks_like(clues: &mut Clues) {
    let files = files(clues.root()).unwrap_or_default();
    if clues.either(2.0, "*.parquet", !files.is_empty()) {
        let images = parquet_images::schema(&clues.root().join(&files[0]))
            .is_ok_and(|s| is_own(&s) || parquet_images::image_column(&s).is_some());
        clues.either(2.0, "a column of images in it", images);
    }
}

/// Whether a table is one of this program's.
fn is_own(schema: &Schema) -> bool {
    schema.field_with_name("image").is_ok_and(|f| *f.data_type() == DataType::Utf8)
        && schema.field_with_name("dataset").is_ok()
}

impl Read for Options {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn obtain(&self) -> &'static str {
        "root is the folder with the .parquet files; each holds the encoded images in a binary column and their class in the column label, or is a dataset table of this program"
    }

    fn read(&self, skipped: &mut Skipped) -> Result<Dataset> {
        let files = files(&self.root)?;
        let Some(first) = files.first() else {
            return Err(Error::data(&self.root, None, "no .parquet files").with_hint(self.obtain()));
        };
        let schema = parquet_images::schema(&self.root.join(first))?;
        if is_own(&schema) {
            return self.read_own(&files, skipped);
        }
        let mut found = Vec::new();
        for file in &files {
            let path = self.root.join(file);
            let split = shards::split_of(file.rsplit('/').next().unwrap_or(file));
            for (row, label) in self.labels(&path)?.into_iter().enumerate() {
                match label {
                    Some(label) => found.push(Entry { file: file.clone(), record: row as u32, split, label }),
                    None => {
                        let line = row as u64 + 1;
                        skipped.odd(self.odd_rows, "the row has no image or no class", &path, line, "")?;
                    }
                }
            }
        }
        let set = Set {
            name: &self.name,
            root: &self.root,
            names: hugging_face_names(&schema, &self.label),
            first_label: 0,
            odd_rows: self.odd_rows,
            obtain: self.obtain(),
        };
        set.rows(&found, skipped)
    }
}

impl Options {
    /// Every row's class; none where the image or the class is null.
    fn labels(&self, path: &Path) -> Result<Vec<Option<Label>>> {
        let mut found = Vec::new();
        for batch in parquet_images::columns(path, &self.label)? {
            let batch = batch?;
            let label = batch.column(1);
            let text = label.as_string_opt::<i32>();
            let number = match text {
                Some(_) => None,
                None => Some(arrow::compute::cast(label, &DataType::Int64)?),
            };
            let number = number.as_ref().map(|n| n.as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let there = batch.column(0).is_valid(row) && label.is_valid(row);
                found.push(match (there, text, number) {
                    (true, Some(t), _) => Some(Label::Name(t.value(row).into())),
                    (true, _, Some(n)) if n.is_valid(row) => Some(Label::Number(n.value(row))),
                    _ => None,
                });
            }
        }
        Ok(found)
    }

    /// This program's own tables: rows as they are, without places in shards that lie elsewhere.
    fn read_own(&self, files: &[String], skipped: &mut Skipped) -> Result<Dataset> {
        let parts = files.iter().map(|f| Dataset::read_parquet(&self.root.join(f), true));
        let all = Dataset::concat(&parts.collect::<Result<Vec<_>>>()?)?;
        let all = all.without(|column| matches!(column, "shard" | "slot" | "digest"))?;
        if all.binary("bytes").is_some() {
            return Err(Error::data(&self.root, None, "the images of this dataset table are inside it")
                .with_hint("use the dataset node that made it; only tables of image paths are read here"));
        }
        let path = self.root.join(&files[0]);
        rows::keep_present(&all, &self.root, &path, (self.missing, self.odd_rows), skipped)
    }
}

/// `info.features.LABEL.names` of the metadata that Hugging Face writes.
fn hugging_face_names(schema: &Schema, label: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(schema.metadata().get("huggingface")?).ok()?;
    serde_json::from_value(json["info"]["features"][label]["names"].clone()).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray},
        datatypes::Field,
    };
    use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};

    use super::{
        super::{fixtures, packed::Packed, packed::Record},
        *,
    };

    fn write(columns: Vec<(&str, ArrayRef)>, metadata: Option<&str>) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let metadata: std::collections::HashMap<_, _> =
            metadata.map(|m| ("huggingface".to_string(), m.to_string())).into_iter().collect();
        let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(metadata));
        let batch = batch.with_schema(schema.clone()).unwrap();
        let mut out = Vec::new();
        // Two rows a group, so that reading a row crosses groups.
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
        let mut writer = ArrowWriter::try_new(&mut out, schema, Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        out
    }

    fn read(files: &[(&str, &[u8])], more: serde_json::Value) -> (Result<Dataset>, Skipped, tempfile::TempDir) {
        let dir = fixtures::tree(files);
        let mut json = serde_json::json!({"root": dir.path()});
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let options: Options = serde_json::from_value(json).unwrap();
        let mut skipped = Skipped::default();
        (options.read(&mut skipped), skipped, dir)
    }

    fn images(n: usize) -> ArrayRef {
        Arc::new(BinaryArray::from_iter((0..n).map(|i| (i != 3).then(|| vec![i as u8; 2]))))
    }

    #[test]
    fn hugging_face_tables_give_names_splits_and_images() {
        let bytes = images(5);
        let paths: ArrayRef = Arc::new(StringArray::from(vec!["x.png"; 5]));
        let field = |name: &str, a: &ArrayRef| Arc::new(Field::new(name, a.data_type().clone(), true));
        let image: ArrayRef = Arc::new(StructArray::from(vec![
            (field("bytes", &bytes), bytes.clone()),
            (field("path", &paths), paths.clone()),
        ]));
        let label: ArrayRef = Arc::new(Int64Array::from(vec![1, 0, 1, 0, 9]));
        let told = r#"{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;
        let file = write(vec![("image", image), ("label", label)], Some(told));
        let files =
            [("data/train-00000-of-00001.parquet", file.as_slice()), ("data/test-00000-of-00001.parquet", &file)];
        let (d, skipped, dir) = read(&files, serde_json::json!({}));
        let d = d.unwrap();
        assert_eq!((d.task().names().to_vec(), d.rows()), (vec!["cat".to_string(), "dog".into()], 6));
        assert_eq!(d.split("train").unwrap().classes().unwrap().values(), &[1, 0, 1]);
        assert_eq!(skipped.of("the row has no image or no class"), 2);
        assert_eq!(skipped.reasons()[1].examples[0], "test-00000-of-00001.parquet:5: 9");
        let path = dir.path().join(files[0].0);
        let packed = Packed::open(&path, dir.path()).unwrap();
        for record in [4u32, 0, 2, 1] {
            let Record::Encoded(bytes) = packed.record(&path, record).unwrap() else { panic!("pixels") };
            assert_eq!(bytes, [record as u8; 2]);
        }
        assert!(packed.record(&path, 3).unwrap_err().to_string().ends_with("parquet:4: the row has no image"));
        assert!(packed.record(&path, 5).is_err());
    }

    #[test]
    fn texts_are_classes_and_missing_columns_are_named() {
        let label: ArrayRef = Arc::new(StringArray::from(vec!["b", "a"]));
        let file = write(vec![("label", label), ("jpg", images(2))], None);
        let (d, _, _dir) = read(&[("x.parquet", &file)], serde_json::json!({}));
        let d = d.unwrap();
        assert_eq!(
            (d.task().names().to_vec(), d.classes().unwrap().values().to_vec()),
            (vec!["a".to_string(), "b".into()], vec![1, 0])
        );
        let (d, _, _dir) = read(&[("x.parquet", &file)], serde_json::json!({"label": "class"}));
        let e = d.unwrap_err();
        assert!(
            e.to_string().ends_with("x.parquet: no column class") && e.hint().unwrap().contains("label, jpg"),
            "{e}"
        );
        let bare = write(vec![("label", Arc::new(StringArray::from(vec!["b"])) as ArrayRef)], None);
        let (d, _, _dir) = read(&[("x.parquet", &bare)], serde_json::json!({}));
        assert!(d.unwrap_err().to_string().contains("no column of encoded images"));
    }

    #[test]
    fn own_tables_keep_their_rows_whose_images_are_there() {
        let columns = crate::data::dataset::Columns {
            image: vec!["a.png".into(), "b.png".into()],
            dataset: "own".into(),
            split: Some(vec![Some("train".into()), Some("test".into())]),
            class: Some((vec!["x".into(), "y".into()], vec![Some(1), Some(0)])),
            ..Default::default()
        };
        let dir = fixtures::tree(&[("a.png", b"x")]);
        columns.build().unwrap().write_parquet(&dir.path().join("t.parquet")).unwrap();
        let options: Options = serde_json::from_value(serde_json::json!({"root": dir.path()})).unwrap();
        let mut skipped = Skipped::default();
        let d = options.read(&mut skipped).unwrap();
        assert_eq!((d.rows(), d.text("dataset").unwrap().value(0), d.task().names().len()), (1, "own", 2));
        assert_eq!(skipped.reasons()[0].examples, ["t.parquet:2: b.png"]);
    }
}
