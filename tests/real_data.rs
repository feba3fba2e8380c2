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
    (
        "covid",
        "format: image_table, root: 'ROOT/covid-chestxray-dataset', file: metadata.csv, image: filename, folder: images, \
         labels: { findings: { column: finding, separators: ',/' } }, patient: patientid",
        306,
    ),
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
