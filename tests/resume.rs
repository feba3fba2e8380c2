//! Killed at any moment, a rerun ends with the same report to the byte.

mod study;

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use study::{Study, TINY};

/// Runs until the n-th event of a kind, then kills the program without warning. False where it ended before.
fn kill_after(study: &Study, event: &str, n: usize) -> bool {
    let mut child =
        study.command(&["run", "x.yaml", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let wanted = format!("\"event\":\"{event}\"");
    let seen = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains(&wanted))
        .take(n)
        .count();
    child.kill().unwrap();
    child.wait().unwrap();
    seen == n
}

#[test]
fn a_killed_run_is_continued_to_the_same_bytes() {
    let whole = Study::new(TINY);
    whole.must(&["run", "x.yaml"]);
    let expected = whole.report();
    let killed = Study::new(TINY);
    let mut kills = 0;
    for (event, n) in [("started", 1), ("done", 2), ("started", 3), ("progress", 2), ("done", 3), ("started", 4)] {
        kills += usize::from(kill_after(&killed, event, n));
        killed.must(&["verify"]);
    }
    assert!(kills >= 4, "only {kills} runs were killed in time");
    killed.must(&["run", "x.yaml"]);
    assert_eq!(killed.report(), expected);
}

#[test]
fn an_interrupted_training_continues_from_its_checkpoint() {
    let long = TINY.replace("epochs: 1,", "epochs: 400,");
    let study = Study::new(&long);
    let mut child = study
        .command(&["run", "x.yaml", "pretrain[fraction=1.0]", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut inside = false;
    let mut stopped = false;
    for line in lines {
        inside |= line.contains("\"event\":\"progress\"") && line.contains("pretrain[");
        if inside && !stopped {
            // The child just spoke, so its number is still its own.
            let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
            assert!(sent.success());
            stopped = true;
        }
    }
    assert!(stopped, "the training ended before it could be interrupted");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let text = study.must(&["run", "x.yaml", "pretrain[fraction=1.0]", "--json"]);
    let resumed = text.lines().any(|l| l.contains("\"event\":\"started\"") && l.contains("\"resumes\":true"));
    assert!(resumed, "{text}");

    let straight = Study::new(&long);
    straight.must(&["run", "x.yaml", "pretrain[fraction=1.0]"]);
    let digests = |s: &Study| s.must(&["show", "pretrain[fraction=1.0]", "--json"]);
    let outputs = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["outputs"].clone();
    let (a, b) = (outputs(&digests(&study)), outputs(&digests(&straight)));
    assert!(a.is_object() && a == b, "{a}\n{b}");
}
