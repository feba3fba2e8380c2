//! Outside programs: what they see, how they end, and what they took.

use super::*;

#[test]
fn a_failed_command_says_how_with_the_end_of_its_stderr() {
    let study = Study::new(
        r#"pipeline: bad
nodes:
  bad: { command: { run: "for i in $(seq 30); do echo line $i >&2; done; echo said; exit 3", outputs: { files: { type: files, path: x } } } }
  gone: { command: { run: [no-such-program, "1"], outputs: { files: { type: files, path: x } } } }
  empty: { command: { run: "echo 1 > y", outputs: { files: { type: files, path: x } } } }
"#,
    );
    let out = study.output(&["run", "x.yaml", "--keep-going", "--resource", "bad.retries=0"]);
    let told = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(told.contains("sh ended with exit code 3; the end of its stderr:"), "{told}");
    assert!(told.contains("line 30") && !told.contains("line 2\n"), "{told}");
    assert!(told.contains("cannot start no-such-program") && told.contains("it is looked for in"), "{told}");
    assert!(told.contains("left no x for output files") && told.contains("its folder holds y"), "{told}");
    let log =
        walk(&study.path(".scaleshot/logs")).iter().map(|p| std::fs::read_to_string(p).unwrap()).collect::<String>();
    assert!(log.contains("said") && log.contains("stderr: line 1\n"), "{log}");
}

#[test]
fn a_command_sees_what_is_declared_and_nothing_else() {
    let study = Study::new(
        r#"pipeline: env
nodes:
  a: { command: { run: "env | cut -d= -f1 | sort > names; ls -A > here; cat $SCALESHOT_ROOT/s.txt > root", root: scripts, env: { MINE: "1" }, pass: [YOURS], version: "1", outputs: { files: { type: files, path: . } } } }
"#,
    );
    std::fs::create_dir(study.path("scripts")).unwrap();
    std::fs::write(study.path("scripts/s.txt"), "script 1").unwrap();
    let run = |words: &[&str]| {
        let out = study.command(words).env("YOURS", "2").env("THEIRS", "3").output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    run(&["run", "x.yaml"]);
    let blobs: Vec<String> =
        walk(&study.path(".scaleshot/blobs")).iter().map(|p| text(&std::fs::read(p).unwrap())).collect();
    let names = blobs.iter().find(|b| b.contains("SCALESHOT_INPUTS\n")).unwrap();
    assert!(names.contains("MINE\n") && names.contains("YOURS\n") && !names.contains("THEIRS"), "{names}");
    assert!(blobs.iter().any(|b| b == "here\nnames\n") && blobs.iter().any(|b| b == "script 1"), "{blobs:?}");
    // Its scripts, its version and its declared variables decide; what is passed on does not.
    let plan = |edit: &dyn Fn(String) -> String| {
        let before = std::fs::read_to_string(study.path("x.yaml")).unwrap();
        std::fs::write(study.path("x.yaml"), edit(before.clone())).unwrap();
        let plan = run(&["plan", "x.yaml"]);
        std::fs::write(study.path("x.yaml"), before).unwrap();
        plan
    };
    assert!(plan(&|y| y).contains("0 to run"));
    assert!(plan(&|y| y.replace("version: \"1\"", "version: \"2\"")).contains("version changed (1 => 2)"));
    assert!(plan(&|y| y.replace("MINE: \"1\"", "MINE: \"0\"")).contains("env.MINE changed (1 => 0)"));
    std::fs::write(study.path("scripts/s.txt"), "script 22").unwrap();
    assert!(plan(&|y| y).contains("source changed (1 of 1 files: s.txt)"));
}

#[test]
fn ctrl_c_ends_a_command_with_its_children_and_a_timeout_does() {
    let study = Study::new(
        r#"pipeline: long
nodes:
  long: { command: { run: "sleep 1000 & sleep 1000 & echo $! > $HERE/pid; wait", outputs: { files: { type: files, path: x } }, pass: [HERE] } }
"#,
    );
    let here = study.folder.path();
    let spawn = |words: &[&str]| {
        let _ = std::fs::remove_file(study.path("pid"));
        let child =
            study.command(words).env("HERE", here).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let pid = loop {
            match std::fs::read_to_string(study.path("pid")) {
                Ok(text) if text.ends_with('\n') => break text.trim().to_string(),
                _ => assert!(begun.elapsed() < Duration::from_secs(60), "the command does not begin"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        (child, pid)
    };
    // A process that has ended but that nobody waited for yet counts as ended.
    let alive = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    };
    let (child, pid) = spawn(&["run", "x.yaml"]);
    assert!(alive(&pid));
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(sent.success());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    assert!(!alive(&pid), "a child of the command lives on");

    let (child, pid) = spawn(&["run", "x.yaml", "--resource", "long.timeout_s=0.3"]);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("long: took longer than 0.3 s"), "{}", text(&out.stderr));
    assert!(!alive(&pid), "a child of the command lives on");

    // A child that left the group and the parent, and holds the output open.
    let file = std::fs::read_to_string(study.path("x.yaml")).unwrap();
    let away = "setsid sleep 1000 & echo $! > $HERE/pid; ";
    std::fs::write(
        study.path("x.yaml"),
        file.replace("sleep 1000 & sleep 1000 & echo $! > $HERE/pid; wait", &format!("{away}sleep 1000")),
    )
    .unwrap();
    let begun = Instant::now();
    let (child, pid) = spawn(&["run", "x.yaml", "--resource", "long.timeout_s=0.3"]);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(60) && !alive(&pid), "a child of the command lives on");
    // The same of a command that ends well.
    std::fs::write(
        study.path("x.yaml"),
        file.replace("sleep 1000 & sleep 1000 & echo $! > $HERE/pid; wait", &format!("{away}echo 1 > x")),
    )
    .unwrap();
    let (child, pid) = spawn(&["run", "x.yaml"]);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(begun.elapsed() < Duration::from_secs(60) && !alive(&pid), "a child of the command lives on");
}

#[test]
fn a_run_that_was_killed_leaves_no_command_beside_the_next() {
    let study = Study::new(
        r#"pipeline: killed
nodes:
  long: { command: { run: "cat $HERE/pid; [ -e $HERE/again ] && ! grep -qs '^State:.[SRD]' /proc/$(cat $HERE/pid)/status && echo 1 > x && exit; echo $$ > $HERE/pid; exec sleep 1000", outputs: { files: { type: files, path: x } }, pass: [HERE] } }
"#,
    );
    let command = || {
        let mut command = study.command(&["run", "x.yaml"]);
        command.env("HERE", study.folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut first = command().spawn().unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(study.path("pid")).is_ok_and(|pid| pid.ends_with('\n')) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the command does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    std::fs::write(study.path("again"), "").unwrap();
    // The second makes its file only where the first is gone.
    let second = command().args(["--resource", "long.timeout_s=30"]).status().unwrap();
    assert!(second.success(), "{}", study.must(&["show", "long", "--log"]));
    assert!(study.must(&["show", "long", "--log"]).contains("ended what an earlier attempt"));
}

#[test]
fn what_a_command_took_is_in_the_record() {
    let study = Study::new(
        r#"pipeline: took
nodes:
  busy: { command: { run: "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; echo $i > x", outputs: { files: { type: files, path: x } } } }
  child: { command: { run: "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; cut -d' ' -f16 /proc/$$/stat > $HERE/ticks; echo 1 > x", outputs: { files: { type: files, path: x } }, pass: [HERE] } }
"#,
    );
    let out = study.command(&["run", "x.yaml"]).env("HERE", study.folder.path()).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    // A child that may have ended between two looks: the shell's own word of it, in ticks of 10 ms.
    let ticks: u64 = std::fs::read_to_string(study.path("ticks")).unwrap().trim().parse().unwrap();
    let record: Value = serde_json::from_str(&study.must(&["show", "child", "--json"])).unwrap();
    assert!(ticks >= 1 && record["cpu_ms"].as_u64().unwrap() >= ticks * 10, "{ticks} ticks in {record}");
    let record: Value = serde_json::from_str(&study.must(&["show", "busy", "--json"])).unwrap();
    let number = |name: &str| record[name].as_u64().unwrap_or_else(|| panic!("{name} in {record}"));
    assert!(number("cpu_ms") >= 20 && number("wall_ms") >= 20 && number("peak_rss_bytes") > 1 << 20, "{record}");
    // Its own, and not what scaleshot takes beside it.
    assert!(number("peak_rss_bytes") < 10 << 20, "{record}");
}
