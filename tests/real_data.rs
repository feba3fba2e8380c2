//! Real datasets in their native layouts, read and decoded by the program, where `SCALESHOT_REAL_DATA` names them.

mod study;

use scaleshot::{
    data::{dataset::Dataset, image::ImageShards},
    store::Store,
};
use study::Study;

/// Node, its dataset, and how many images the shared parts of it hold.
const SETS: &[(&str, &str, usize)] = &[
    ("nih", "format: nih, root: 'ROOT/NIH-ChestXRay-14'", 1345),
    ("covid", "format: covid, root: 'ROOT/covid-chestxray-dataset'", 306),
    ("kermany", "format: image_folder, root: 'ROOT/kermany_imagefolder'", 800),
    ("covidx", "format: covidx, root: 'ROOT/COVIDx-CXR2'", 535),
    ("standin", "format: tuberculosis, root: 'ROOT/Tuberculosis_dataset_standin'", 300),
    ("shenzhen", "format: tuberculosis, root: 'ROOT/shenzhen_originals'", 11),
    ("cifar10", "format: cifar10, root: 'ROOT/cifar-10-batches-bin'", 6102),
    ("cifar100", "format: cifar100, root: 'ROOT/cifar-100-binary'", 2033),
    ("pets", "format: pets, root: 'ROOT/oxford-iiit-pet'", 598),
    ("flowers", "format: flowers102, root: 'ROOT/oxford-102-flowers'", 400),
];

#[test]
fn every_shared_dataset_is_read_and_decoded_whole() {
    let Some(root) = std::env::var("SCALESHOT_REAL_DATA").ok().filter(|r| !r.is_empty()) else {
        println!("left out: SCALESHOT_REAL_DATA is not set");
        return;
    };
    let mut text = String::from("pipeline: real\nnodes:\n");
    for (name, dataset, _) in SETS {
        let dataset = dataset.replace("ROOT", &root);
        text += &format!(
            "  {name}: {{ dataset: {{ {dataset} }} }}\n  {name}_px: {{ images: {{ data: {name}, size_px: 24 }} }}\n"
        );
    }
    let study = Study::new(&text);
    study.must(&["run", "x.yaml"]);
    let store = Store::open(study.path(".scaleshot")).unwrap();
    let last = store.last("real").unwrap();
    for (name, _, expected) in SETS {
        let artifact = &last[&format!("{name}_px")].outputs["images"];
        let local = |file: &str| store.local(&artifact.file(file).unwrap().digest).unwrap();
        let rows = Dataset::read_parquet(&local("table.parquet"), false).unwrap();
        let shards = ImageShards::open(&[local("shard-00000.arrow")]).unwrap();
        assert_eq!((rows.rows(), shards.total()), (*expected, *expected), "{name}");
        // An image that nothing was decoded into would be all zeros.
        for slot in [0, *expected as u32 / 2, *expected as u32 - 1] {
            assert!(shards.get(0, slot).unwrap().iter().any(|&p| p > 0), "{name}: image {slot} is black");
        }
    }
    assert_eq!(study.ran(&[]), Vec::<String>::new());
}

const COVID: &str = r#"pipeline: covid
nodes:
  covid: { dataset: { format: covid, root: 'ROOT/covid-chestxray-dataset' } }
  covid_px: { images: { data: covid, size_px: 64 } }
  covidx: { dataset: { format: covidx, root: 'ROOT/COVIDx-CXR2' } }
  covidx_px: { images: { data: covidx, size_px: 64 } }
  drawn: { merge: { from: covid, split: { ratio: { train: 0.7 } }, leakage: report } }
  drawn_px: { images: { data: drawn, size_px: 64 } }
"#;

/// Rows of `right` that are a near-duplicate of some row of `left`, and no copy of one: every pair looked at.
fn near_by_every_pair(left: &Dataset, right: &Dataset) -> u64 {
    use scaleshot::data::image::phash;
    let column = |d: &Dataset, name: &str| -> Vec<Option<Vec<u8>>> {
        d.binary(name).unwrap().iter().map(|v| v.map(Into::into)).collect()
    };
    let (files, hashes) = (column(left, "digest"), column(left, phash::COLUMN));
    let upright: Vec<_> = hashes.iter().flatten().filter_map(|h| phash::upright(h)).collect();
    let rows = column(right, "digest").into_iter().zip(column(right, phash::COLUMN));
    let is_near = |hash: &Vec<u8>| {
        phash::orientations(hash).any(|o| upright.iter().any(|u| phash::distance(u, &o) <= phash::RADIUS))
    };
    rows.filter(|(file, hash)| !files.contains(file) && hash.as_ref().is_some_and(is_near)).count() as u64
}

/// The COVID sets hold pictures of one another, and pictures that differ only in how they were saved. What the index
/// finds is held against every pair.
#[test]
fn the_covid_sets_share_images_and_near_duplicates() {
    use scaleshot::data::leakage;
    let Some(root) = std::env::var("SCALESHOT_REAL_DATA").ok().filter(|r| !r.is_empty()) else {
        println!("left out: SCALESHOT_REAL_DATA is not set");
        return;
    };
    let study = Study::new(&COVID.replace("ROOT", &root));
    study.must(&["run", "x.yaml"]);
    let store = Store::open(study.path(".scaleshot")).unwrap();
    let last = store.last("covid").unwrap();
    let table = |node: &str| {
        let file = last[node].outputs["images"].file("table.parquet").unwrap().digest;
        Dataset::read_parquet(&store.local(&file).unwrap(), false).unwrap()
    };
    let (covid, covidx) = (table("covid_px"), table("covidx_px"));
    let shared = leakage::between(("covid", &covid), ("covidx", &covidx)).unwrap();
    println!("{shared}");
    assert!(shared.images >= 200, "{shared}");
    assert_eq!(shared.near_images, Some(near_by_every_pair(&covid, &covidx)), "{shared}");
    // Within one set, drawn by rows before any picture was decoded.
    let drawn = table("drawn_px");
    let within = near_by_every_pair(&drawn.split("train").unwrap(), &drawn.split("test").unwrap());
    let notes = |node: &str| {
        let record: serde_json::Value = serde_json::from_str(&study.must(&["show", node, "--json"])).unwrap();
        record["notes"].to_string()
    };
    println!("{within} near-duplicates: {}", notes("drawn_px"));
    assert!(
        within >= 1 && notes("drawn_px").contains(&format!("and {within} near-duplicates")),
        "{}",
        notes("drawn_px")
    );
    assert!(notes("drawn").contains("not_looked_at_for_near_duplicates"), "{}", notes("drawn"));
}
