//! `scaleshot fetch` against a server on loopback that continues, breaks off, lies and offers bombs.

mod study;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Output,
    sync::{Arc, Mutex},
};

use study::Study;

/// How the server treats a file.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Whole,
    /// The first answer breaks off after this many bytes.
    BreaksOff(usize),
    /// Every answer breaks off after this many further bytes.
    AlwaysBreaksOff(usize),
    /// `Range` is not heard.
    KnowsNoRange(usize),
}

struct Server {
    address: String,
    files: Arc<Files>,
    /// Ranges asked for, by path: where they begin.
    asked: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Server { address, files: Arc::default(), asked: Arc::default() };
        let (files, asked) = (server.files.clone(), server.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, asked) = (files.clone(), asked.clone());
                std::thread::spawn(move || answer(stream, &files, &asked));
            }
        });
        server
    }

    fn offer(&self, name: &str, bytes: &[u8], manner: Manner) -> String {
        self.files.lock().unwrap().insert(format!("/{name}"), (bytes.to_vec(), manner));
        format!("{}/{name}", self.address)
    }

    fn asked(&self, name: &str) -> Vec<u64> {
        let path = format!("/{name}");
        self.asked.lock().unwrap().iter().filter(|(p, _)| *p == path).map(|(_, at)| *at).collect()
    }
}

type Files = Mutex<BTreeMap<String, (Vec<u8>, Manner)>>;

fn answer(mut stream: TcpStream, files: &Files, asked: &Mutex<Vec<(String, u64)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or("").split('?').next().unwrap_or("").to_string();
        let mut from = None;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            if header.trim().is_empty() {
                break;
            }
            if let Some(range) = header.to_ascii_lowercase().strip_prefix("range: bytes=") {
                from = range.trim().split('-').next().and_then(|n| n.parse::<usize>().ok());
            }
        }
        asked.lock().unwrap().push((path.clone(), from.unwrap_or(0) as u64));
        let Some((bytes, manner)) = files.lock().unwrap().get(&path).cloned() else {
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            continue;
        };
        let begins = if matches!(manner, Manner::KnowsNoRange(_)) { None } else { from };
        let rest = &bytes[begins.unwrap_or(0).min(bytes.len())..];
        let mut head = match begins {
            Some(at) => format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {at}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            ),
            None => "HTTP/1.1 200 OK\r\n".into(),
        };
        // Without a tag the client's own retries stay out of what is tested.
        head.push_str(&format!("Content-Length: {}\r\n", rest.len()));
        head.push_str("Last-Modified: Tue, 01 Jan 2030 00:00:00 GMT\r\n\r\n");
        let cut = match manner {
            Manner::Whole => rest.len(),
            Manner::BreaksOff(n) | Manner::KnowsNoRange(n) => {
                files.lock().unwrap().get_mut(&path).unwrap().1 = if matches!(manner, Manner::BreaksOff(_)) {
                    Manner::Whole
                } else {
                    Manner::KnowsNoRange(usize::MAX)
                };
                n
            }
            Manner::AlwaysBreaksOff(n) => n,
        };
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&rest[..cut.min(rest.len())]);
        if cut < rest.len() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn md5(bytes: &[u8]) -> String {
    use md5::Digest;
    md5::Md5::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes that do not repeat.
fn noise(n: usize) -> Vec<u8> {
    let mut x = 1u64;
    let mut next = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// A study with a catalogue of one set, `toy`, of these files.
fn toy(files: &[String]) -> Study {
    let study = Study::new("");
    let text = format!(
        "sets:\n  toy:\n    about: a toy\n    home: https://example.org\n    terms: none\n    format: image_folder\n    root: toy\n    files:\n{}",
        files.iter().map(|f| format!("      - {{ {f} }}\n")).collect::<String>()
    );
    std::fs::write(study.path("catalogue.yaml"), text).unwrap();
    study
}

fn fetch(study: &Study) -> Output {
    study.output(&["fetch", "toy", "--to", "out", "--catalogue", "catalogue.yaml"])
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// All files and folders below, but for the fetch's own.
fn tree(folder: &Path) -> Vec<String> {
    fn walk(at: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let name = entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if name != ".fetch" {
                found.push(name);
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), root, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written by hand, because the builder refuses names that climb out.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zip(entries: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes, mode) in entries {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        if mode & 0o170_000 == 0o120_000 {
            out.add_symlink(*name, std::str::from_utf8(bytes).unwrap(), options).unwrap();
        } else {
            out.start_file(*name, options).unwrap();
            out.write_all(bytes).unwrap();
        }
    }
    out.finish().unwrap().into_inner()
}

#[test]
fn a_broken_download_continues_and_a_second_fetch_asks_nothing() {
    let server = Server::start();
    let bytes = noise(300_000);
    let url = server.offer("a.bin", &bytes, Manner::BreaksOff(100_000));
    let study = toy(&[format!("url: \"{url}?download=1\", bytes: 300000, md5: {}", md5(&bytes))]);
    let out = fetch(&study);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(std::fs::read(study.path("out/a.bin")).unwrap(), bytes);
    let asked = server.asked("a.bin");
    // The last byte that came is asked for again.
    assert!(asked.len() == 2 && asked[0] == 0 && asked[1] > 0 && asked[1] < 100_000, "{asked:?}");
    assert!(said(&out).contains("md5 as published"), "{}", said(&out));
    let again = fetch(&study);
    assert!(again.status.success() && said(&again).contains("fetched before"), "{}", said(&again));
    assert_eq!(server.asked("a.bin").len(), 2);
    // A file that was changed here is fetched anew.
    std::fs::write(study.path("out/a.bin"), "short").unwrap();
    assert!(fetch(&study).status.success());
    assert_eq!(std::fs::read(study.path("out/a.bin")).unwrap(), bytes);
}

#[test]
fn what_came_is_kept_for_the_next_time() {
    let server = Server::start();
    let bytes = noise(50_000);
    // No byte but the one asked for again: four silent attempts, and it gives up.
    let url = server.offer("a.bin", &bytes, Manner::AlwaysBreaksOff(1));
    let study = toy(&[format!("url: \"{url}\", sha256: {}", sha256(&bytes))]);
    let out = fetch(&study);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("the same command continues there"), "{}", said(&out));
    assert!(!study.path("out/a.bin").exists());
    std::fs::write(study.path("out/.fetch/a.bin.part"), &bytes[..20_000]).unwrap();
    server.offer("a.bin", &bytes, Manner::Whole);
    let before = server.asked("a.bin").len();
    let out = fetch(&study);
    assert!(out.status.success() && said(&out).contains("sha256 as published"), "{}", said(&out));
    assert_eq!(server.asked("a.bin")[before..], [19_999]);
    assert_eq!(std::fs::read(study.path("out/a.bin")).unwrap(), bytes);
    // A part of another file begins anew: its last byte differs.
    let other = noise(60_000).split_off(10_000);
    std::fs::remove_file(study.path("out/a.bin")).unwrap();
    std::fs::write(study.path("out/.fetch/a.bin.part"), vec![!other[999]; 1000]).unwrap();
    let origin =
        format!("{{\"url\":\"{url}\",\"bytes\":50000,\"e_tag\":null,\"modified\":\"2030-01-01T00:00:00+00:00\"}}");
    std::fs::write(study.path("out/.fetch/a.bin.json"), origin).unwrap();
    let server_url = server.offer("a.bin", &other, Manner::Whole);
    assert_eq!(server_url, url);
    let text = std::fs::read_to_string(study.path("catalogue.yaml")).unwrap();
    std::fs::write(study.path("catalogue.yaml"), text.replace(&sha256(&bytes), &sha256(&other))).unwrap();
    let out = fetch(&study);
    assert!(out.status.success() && said(&out).contains("the file is another one now"), "{}", said(&out));
    assert_eq!(std::fs::read(study.path("out/a.bin")).unwrap(), other);
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let server = Server::start();
    let bytes = noise(40_000);
    let url = server.offer("a.bin", &bytes, Manner::KnowsNoRange(10_000));
    let study = toy(&[format!("url: \"{url}\"")]);
    let out = fetch(&study);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(std::fs::read(study.path("out/a.bin")).unwrap(), bytes);
    let told = format!("no checksum is published; its sha256 is {}", sha256(&bytes));
    assert!(said(&out).contains(&told), "{}", said(&out));
}

#[test]
fn wrong_checksums_sizes_and_addresses_are_errors() {
    let server = Server::start();
    let bytes = noise(1000);
    let url = server.offer("a.bin", &bytes, Manner::Whole);
    for (more, told) in [
        (format!("md5: {}", md5(b"other")), format!("its md5 is {}, published is {}", md5(&bytes), md5(b"other"))),
        (format!("sha256: {}", sha256(b"other")), "published is".into()),
        ("bytes: 999".into(), "the server has 1000 bytes, the catalogue says 999".into()),
    ] {
        let study = toy(&[format!("url: \"{url}\", {more}")]);
        let out = fetch(&study);
        assert_eq!(out.status.code(), Some(1), "{more}");
        assert!(said(&out).contains(&told), "{}", said(&out));
        assert_eq!(tree(&study.path("out")), [""; 0], "{more}");
        assert!(!study.path("out/.fetch/a.bin.part").exists(), "{more}");
    }
    let study = toy(&[format!("url: \"{}/gone.bin\"", server.address)]);
    let out = fetch(&study);
    assert!(said(&out).contains("the server has no such file") && out.status.code() == Some(1), "{}", said(&out));
    let study = toy(&["url: \"http://127.0.0.1:9/a\", sise: 3".into()]);
    let out = fetch(&study);
    assert!(said(&out).contains("unknown field `sise`") && out.status.code() == Some(2), "{}", said(&out));
    let out = study.output(&["fetch", "cifar01"]);
    assert!(said(&out).contains("did you mean cifar") && out.status.code() == Some(2), "{}", said(&out));
}

#[test]
fn archives_of_every_kind_are_unpacked_and_read() {
    let png = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/fractal/train/0000/00000.png"))
        .or_else(|_| first_png())
        .unwrap();
    let entries: [(&str, &[u8]); 3] = [("toy/a/1.png", &png), ("toy/b/2.png", &png), ("./toy/b/3.png", &png)];
    let zipped: Vec<(&str, &[u8], u32)> = entries.iter().map(|(n, b)| (*n, *b, 0o644)).collect();
    for (name, bytes) in [("t.tar", tar(&entries)), ("t.tgz", gz(&tar(&entries))), ("t.zip", zip(&zipped))] {
        let server = Server::start();
        let url = server.offer(name, &bytes, Manner::Whole);
        let study = toy(&[format!("url: \"{url}\", unpack: true")]);
        let out = fetch(&study);
        assert!(out.status.success() && said(&out).contains("3 files unpacked"), "{name}: {}", said(&out));
        assert_eq!(tree(&study.path("out")), ["toy", "toy/a", "toy/a/1.png", "toy/b", "toy/b/2.png", "toy/b/3.png"]);
        assert_eq!(String::from_utf8_lossy(&out.stdout), "{ dataset: { format: image_folder, root: out/toy } }\n");
        assert!(!study.path(&format!("out/.fetch/{name}.part")).exists());
        let told = study.must(&["inspect", "out/toy"]);
        assert!(told.contains("looks like image_folder") && told.contains("3 rows"), "{told}");
    }
}

fn first_png() -> std::io::Result<Vec<u8>> {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fractal")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)?.flatten() {
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if entry.path().extension().is_some_and(|e| e == "png") {
                return std::fs::read(entry.path());
            }
        }
    }
    Err(std::io::ErrorKind::NotFound.into())
}

#[test]
fn hostile_archives_write_nothing_outside() {
    let mut link = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    link.append_link(&mut header, "toy/link", "../..").unwrap();
    let linked = [link.into_inner().unwrap(), Vec::new()].concat();
    let mut hard = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    hard.append_link(&mut header, "toy/hard", "/etc/passwd").unwrap();
    let zeros = vec![0; 80 << 20];
    let whole = gz(&tar(&[("toy/a/1.png", b"x"), ("toy/b/2.png", b"y")]));
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("up.tar", tar(&[("../evil.txt", b"x")]), "../evil.txt leaves the folder"),
        ("deep.tar", tar(&[("toy/../../evil.txt", b"x")]), "leaves the folder"),
        ("absolute.tar", tar(&[("/tmp/scaleshot-evil.txt", b"x")]), "leaves the folder"),
        ("link.tar", linked, "is a link or a device"),
        ("hard.tar", hard.into_inner().unwrap(), "is a link or a device"),
        ("up.zip", zip(&[("../evil.txt", b"x", 0o644)]), "../evil.txt leaves the folder"),
        ("link.zip", zip(&[("toy/link", b"/etc", 0o120_777)]), "is a link or a device"),
        ("own.tar", tar(&[(".fetch/done.json", b"{}")]), "is not a name for a file here"),
        ("bomb.tgz", gz(&tar(&[("toy/zeros", &zeros)])), "it unpacks to more than"),
        ("cut.tgz", whole[..whole.len() - 20].to_vec(), "cannot be unpacked"),
    ];
    for (name, bytes, told) in cases {
        let server = Server::start();
        let url = server.offer(name, &bytes, Manner::Whole);
        let study = toy(&[format!("url: \"{url}\", unpack: true")]);
        let out = fetch(&study);
        assert_eq!(out.status.code(), Some(1), "{name}: {}", said(&out));
        assert!(said(&out).contains(told), "{name}: {}", said(&out));
        assert!(!study.path("evil.txt").exists() && !Path::new("/tmp/scaleshot-evil.txt").exists(), "{name}");
        let mut outside = tree(study.folder.path());
        outside.retain(|n| n != "out" && !n.starts_with("out/"));
        assert_eq!(outside, ["catalogue.yaml", "x.yaml"], "{name}");
        let links = tree(&study.path("out")).into_iter().filter(|n| study.path("out").join(n).is_symlink());
        assert_eq!(links.count(), 0, "{name}");
    }
    // A zip bomb whose directory tells a small size: what comes is held against it.
    let mut lying = zip(&[("toy/zeros", &zeros, 0o644)]);
    let small = 1000u32.to_le_bytes();
    let real = (zeros.len() as u32).to_le_bytes();
    for at in 0..lying.len() - 4 {
        if lying[at..at + 4] == real {
            lying[at..at + 4].copy_from_slice(&small);
        }
    }
    let server = Server::start();
    let url = server.offer("lying.zip", &lying, Manner::Whole);
    let study = toy(&[format!("url: \"{url}\", unpack: true")]);
    let out = fetch(&study);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(said(&out).contains("lying.zip: cannot be unpacked: File is larger than its declared"), "{}", said(&out));
    let written = std::fs::metadata(study.path("out/toy/zeros")).map_or(0, |m| m.len());
    assert!(written <= 72 << 20, "{written} bytes of {} were written", zeros.len());
    // A link that lay in the folder before is not followed.
    let url = server.offer("through.tar", &tar(&[("toy/a/1.png", b"x")]), Manner::Whole);
    let study = toy(&[format!("url: \"{url}\", unpack: true")]);
    std::fs::create_dir_all(study.path("out")).unwrap();
    std::fs::create_dir(study.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(study.path("elsewhere"), study.path("out/toy")).unwrap();
    let out = fetch(&study);
    assert!(said(&out).contains("is in the way and no folder"), "{}", said(&out));
    assert_eq!(tree(&study.path("elsewhere")), [""; 0]);
}

#[test]
fn sets_under_an_agreement_tell_how_to_obtain_them() {
    let study = Study::new("");
    let out = study.output(&["fetch", "chexpert"]);
    let told = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1));
    assert!(told.contains("how: register at stanfordmlgroup.github.io") && told.contains("train.csv"), "{told}");
    assert!(!study.path("data").exists());
    let listed = study.must(&["fetch"]);
    assert!(listed.contains("cifar10 ") && listed.contains("by hand"), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&study.must(&["fetch", "--json"])).unwrap();
    assert!(json["sets"]["pets"]["files"][0]["md5"].is_string());
    let mut sink = String::new();
    let _ = out.stderr.as_slice().read_to_string(&mut sink);
    assert!(sink.contains("obtained by hand"), "{sink}");
}
