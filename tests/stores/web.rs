//! A web server of static files, as plain as they come: GET and HEAD, no listing.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// Paths that were asked for by GET, in order.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// Serves a folder until the test ends, but for the first requests, to which it is too busy: its URL.
pub fn serve(folder: PathBuf, busy: usize) -> String {
    serve_slowly(folder, busy, Duration::ZERO).0
}

/// The same, after a while for each GET.
pub fn serve_slowly(folder: PathBuf, busy: usize, wait: Duration) -> (String, Asked) {
    let asked = Asked::default();
    let told = asked.clone();
    let busy = Arc::new(AtomicUsize::new(busy));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (folder, busy, asked) = (folder.clone(), busy.clone(), asked.clone());
            std::thread::spawn(move || answer(stream, &folder, &busy, &asked, wait));
        }
    });
    (url, told)
}

/// One connection after another request, until the client closes it.
fn answer(mut stream: TcpStream, folder: &Path, busy: &AtomicUsize, asked: &Asked, wait: Duration) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    loop {
        let first = lines.next()?;
        let _headers = lines.by_ref().take_while(|line| !line.is_empty()).count();
        let mut words = first.split_whitespace();
        let (method, path) = (words.next()?, words.next()?.trim_start_matches('/'));
        let file = std::fs::read(folder.join(path));
        if method == "GET" {
            asked.lock().unwrap().push(path.to_string());
            std::thread::sleep(wait);
        }
        let too_busy = busy.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        let (status, body) = match (method, file) {
            _ if too_busy => ("503 Service Unavailable", Vec::new()),
            ("GET" | "HEAD", Ok(body)) => ("200 OK", body),
            ("GET" | "HEAD", Err(_)) => ("404 Not Found", Vec::new()),
            _ => ("405 Method Not Allowed", Vec::new()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nLast-Modified: Mon, 23 Nov 2026 00:00:00 GMT\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        if method == "GET" {
            stream.write_all(&body).ok()?;
        }
    }
}
