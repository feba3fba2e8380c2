//! The other commands on a finished study: what a person or a script reads from them.

mod study;

use serde_json::Value;
use study::{Study, TINY};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn plan_has_the_promised_form() {
    let study = Study::new(TINY);
    let plan = json(&study.must(&["plan", "x.yaml", "--json"]));
    let cell = &plan["cells"][0];
    let mut keys: Vec<&str> = cell.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["cell", "key", "kind", "reasons", "state"]);
    assert_eq!((&cell["cell"], &cell["kind"], &cell["state"]), (&"chexpert".into(), &"dataset".into(), &"run".into()));
}

#[test]
fn a_matrix_carries_the_axes_of_the_cells_it_takes() {
    let study = Study::new(TINY);
    let cells: Vec<String> = study.plan(&[]).into_iter().map(|(cell, ..)| cell).collect();
    assert!(cells.contains(&"source[fraction=0.5]".into()), "{cells:?}");
    assert!(cells.contains(&"transfer[fraction=1.0,shots=full,seed=1]".into()), "{cells:?}");
    assert_eq!(cells.iter().filter(|c| c.starts_with("transfer[")).count(), 8);
}

#[test]
fn a_finished_study_can_be_asked_about() {
    let study = Study::new(TINY);
    study.must(&["run", "x.yaml"]);
    let why = study.must(&["why", "x.yaml", "transfer[fraction=1.0,shots=1,seed=0]"]);
    assert!(why.contains("optimizer.sgd_agc.lr") && why.contains("0.1"), "{why}");
    let ls = study.must(&["ls"]);
    assert!(ls.contains("effect") && ls.contains("compare"), "{ls}");
    let records = json(&study.must(&["ls", "--json"]));
    assert!(!records.to_string().is_empty());
    let show = study.must(&["show", "effect"]);
    assert!(show.contains("fraction") && show.contains("difference"), "{show}");
    let record = json(&study.must(&["show", "merged", "--json"]));
    assert_eq!(record["kind"], "merge");
    let graph = study.must(&["graph", "x.yaml", "--mermaid"]);
    assert!(graph.contains("transfer") && graph.contains("-->"), "{graph}");
    let doctor = json(&study.must(&["doctor", "--json"]));
    assert!(["plain", "avx2", "avx512", "amx"].contains(&doctor["kernels"].as_str().unwrap()), "{doctor}");
    study.must(&["verify"]);
}

#[test]
fn a_kernel_that_cannot_be_used_is_told_of_once() {
    let study = Study::new(TINY);
    let told = |command: &[&str]| {
        let out = study.command(command).env("SCALESHOT_KERNEL", "neon").output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stderr).unwrap().matches("SCALESHOT_KERNEL=neon cannot run here").count()
    };
    assert_eq!((told(&["plan", "x.yaml"]), told(&["run", "x.yaml"])), (0, 1));
    let doctor = study.command(&["doctor", "--json"]).env("SCALESHOT_KERNEL", "neon").output().unwrap();
    assert!(json(&String::from_utf8(doctor.stdout).unwrap())["kernel_note"].as_str().unwrap().contains("neon"));
}

#[test]
fn the_schema_knows_every_kind() {
    let study = Study::new(TINY);
    let schema = study.must(&["schema"]);
    json(&schema);
    for kind in ["dataset", "merge", "images", "subset", "pretrain", "transfer", "embed", "probe", "evaluate"] {
        assert!(schema.contains(&format!("\"{kind}\"")), "{kind} is missing");
    }
    for kind in ["table", "query", "compare", "report", "export"] {
        assert!(schema.contains(&format!("\"{kind}\"")), "{kind} is missing");
    }
}

#[test]
fn the_committed_schema_is_the_program_s() {
    let study = Study::new(TINY);
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pipeline.schema.json");
    let committed = std::fs::read_to_string(committed).unwrap();
    assert!(committed == study.must(&["schema"]), "run make data");
}

#[test]
fn generated_datasets_are_the_committed_ones() {
    let study = Study::new(TINY);
    let spec = "{format: phantom, layout: nih, patients: 12, seed: 7, size_px: 64}";
    study.must(&["generate", spec, "again"]);
    let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/phantom/NIH-ChestXRay-14");
    let mut compared = 0;
    for entry in std::fs::read_dir(study.path("again/images")).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |folder: &std::path::Path| std::fs::read(folder.join("images").join(&name)).unwrap();
        assert_eq!(read(&study.path("again")), read(&committed), "{name:?}: run make data");
        compared += 1;
    }
    assert!(compared > 12);
}

#[test]
fn every_pipeline_of_the_project_is_valid() {
    let study = Study::new(TINY);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            study.must(&["graph", path.to_str().unwrap()]);
            seen += 1;
        }
    }
    assert!(seen >= 2);
}

/// Every command that the help lists, without the program's own `help`.
fn command_names(study: &Study) -> Vec<String> {
    let help = study.must(&["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<String> = listed.filter_map(|line| line.split_whitespace().next()).map(Into::into).collect();
    assert!(names.len() > 20 && names.contains(&"watch".into()), "{names:?}");
    names
}

#[test]
fn shells_complete_every_command_and_option() {
    let study = Study::new(TINY);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = study.must(&["completions", shell]);
        for name in command_names(&study) {
            assert!(text.contains(&name), "{shell} does not know {name}");
        }
        for option in ["keep-going", "dry-run", "store", "unfinished"] {
            assert!(text.contains(option), "{shell} does not know --{option}");
        }
    }
    let out = study.output(&["completions", "tcsh"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("[possible values: bash, elvish, fish, powershell, zsh]"));
    // Bash reads the script, and completes with it.
    let script = format!(
        "{}\nCOMP_WORDS=(scaleshot comp); COMP_CWORD=1; _scaleshot scaleshot comp scaleshot; echo \"${{COMPREPLY[*]}}\"",
        study.must(&["completions", "bash"])
    );
    let bash = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "completions", "{bash:?}");
}

#[test]
fn manual_pages_say_what_the_help_says() {
    let study = Study::new(TINY);
    study.must(&["man", "pages/man1"]);
    let page = |name: &str| std::fs::read_to_string(study.path("pages/man1").join(name)).unwrap();
    let names = command_names(&study);
    assert_eq!(std::fs::read_dir(study.path("pages/man1")).unwrap().count(), names.len() + 1);
    for name in &names {
        assert!(page("scaleshot.1").contains(&format!("scaleshot\\-{name}(1)")), "{name}");
    }
    let run = page("scaleshot-run.1");
    for part in [".TH scaleshot-run 1", ".SH SYNOPSIS", "\\-\\-keep\\-going", "Compute what is not there yet"] {
        assert!(run.contains(part), "{part} is not in\n{run}");
    }
    std::fs::write(study.path("file"), "").unwrap();
    let out = study.output(&["man", "file/man1"]);
    assert!(out.status.code() == Some(1) && String::from_utf8_lossy(&out.stderr).contains("file/man1"), "{out:?}");
}
