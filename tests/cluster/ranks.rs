//! One training on several ranks, under MPI.

use super::*;

/// A training on several ranks, and a transfer of what it made.
const RANKED: &str = r#"pipeline: ranked
params: { ranks: 2, epochs: 2 }
nodes:
  set: { dataset: { format: fractal, categories: 2, per_category: 8, test_per_category: 4, seed: 3, size_px: 16 } }
  pixels: { images: { data: set, size_px: 16 } }
  pretrain:
    pretrain:
      data: pixels
      model: bit-r14x0.25
      ranks: "${params.ranks}"
      epochs: "${params.epochs}"
      batch: 8
      optimizer: { sgd_agc: { lr: 0.1 } }
  transfer:
    transfer:
      model: pretrain
      data: pixels
      ranks: "${params.ranks}"
      steps: 6
      batch: 9
      leakage: report
      keep_model: true
      optimizer: { sgd_agc: { lr: 0.1 } }
"#;

/// Words that start ranks under MPI; `None` where that was not built, which `make test-cluster` sees to.
fn ranks_with() -> Option<String> {
    match std::env::var("SCALESHOT_TEST_RANKS") {
        Ok(program) => Some(format!("mpirun -n {{ranks}} {program}")),
        Err(_) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "SCALESHOT_TEST_RANKS names no scaleshot-mpi");
            eprintln!("left out: make test-cluster builds scaleshot-mpi for this");
            None
        }
    }
}

#[test]
fn mpi_ranks_on_one_node_or_two_make_what_as_many_threads_make() {
    let Some(_cluster) = cluster() else { return };
    let Some(words) = ranks_with() else { return };
    for ranks in ["2", "4"] {
        let param = format!("ranks={ranks}");
        let threads = Study::new(RANKED);
        threads.ran(&["-p", &param]);
        let study = study(RANKED);
        // Two ranks of the pre-training are on two nodes as well, those of the transfer on one.
        let two = "kinds: { pretrain: { flags: [--nodes=2] } }";
        std::fs::write(study.path("p.yaml"), format!("{PROFILE}{two}\nranks_with: {words}\n")).unwrap();
        assert!(ran(&study, &["-p", &param]).contains(&"transfer".to_string()));
        for cell in ["pretrain", "transfer"] {
            assert_eq!(made(&study, cell), made(&threads, cell), "{cell} on {ranks} ranks");
        }
        let log = study.must(&["show", "pretrain", "--log"]);
        assert!(log.contains(&format!("mpirun -n {ranks}")), "{log}");
    }
    // By hand on this machine, without a queue, and by way of memory where virtual nodes must not (serve.sh).
    let (threads, study) = (Study::new(RANKED), Study::new(RANKED));
    threads.ran(&[]);
    let out = study.command(&["run", "x.yaml", "--ranks-with", &words]).env_remove("OMPI_MCA_btl").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(made(&study, "transfer"), made(&threads, "transfer"));
}

/// A pre-training that takes a while, run on this machine, and the same study to be run on the cluster.
fn long(words: &str) -> (Study, Study) {
    let text = RANKED.replace("epochs: 2", "epochs: 100");
    let (local, study) = (Study::new(&text), study(&text));
    local.ran(&["pretrain"]);
    std::fs::write(study.path("p.yaml"), format!("{PROFILE}ranks_with: {words}\n")).unwrap();
    (local, study)
}

#[test]
fn a_killed_rank_is_named_and_its_cell_continues() {
    let Some(_cluster) = cluster() else { return };
    let Some(words) = ranks_with() else { return };
    let (local, study) = long(&words);
    let often = |mut c: Command| {
        c.env("SCALESHOT_CHECKPOINT_S", "0").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all = [&["run", "x.yaml", "--json"], &SLURM[..], &["pretrain"]].concat();
    let child = often(study.command(&all));
    checkpointed(&study);
    let folder = std::fs::canonicalize(study.folder.path()).unwrap();
    let ranks = slurm(&["pgrep", "-f", &format!("scaleshot-mpi [0-9a-f]{{64}} --store {}", folder.display())]);
    let second = ranks.lines().find(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|v| v == b"OMPI_COMM_WORLD_RANK=1")
    });
    slurm(&["kill", "-9", second.unwrap_or_else(|| panic!("no rank 1 among {ranks}"))]);
    let out = end_of(child);
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    let failed = told.lines().find(|l| l.contains("\"failed\"")).unwrap_or_default();
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(failed.contains("rank 1 was lost: exited on signal 9"), "{told}");
    let (code, events, err) = run(&study, &["pretrain"]);
    assert_eq!(code, 0, "{err}\n{events:#?}");
    continued(&study);
    assert_eq!(made(&study, "pretrain"), made(&local, "pretrain"));
}

#[test]
fn mpi_ranks_near_their_time_limit_checkpoint_and_go_on_in_the_same_job() {
    let Some(_cluster) = cluster() else { return };
    let Some(words) = ranks_with() else { return };
    let (local, study) = long(&words);
    let id = detached_with_checkpoints(&study, &["pretrain"]);
    stopped_and_requeued(&study, &id);
    let (code, events, err) = run(&study, &["pretrain"]);
    assert_eq!((code, queued(&events, "submitted")), (0, 0), "{err}\n{events:#?}");
    continued(&study);
    assert_eq!(made(&study, "pretrain"), made(&local, "pretrain"));
}
