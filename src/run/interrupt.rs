//! Ctrl-C: the first lets running cells checkpoint and stop, the second ends the program now.

use crate::{
    error::{Error, Result},
    progress::Cancel,
};

/// Requests `cancel` at the first SIGINT or SIGTERM and exits with 130 at the second, which is safe at any
/// moment: the store is valid between any two writes. Listens for the rest of the process's life.
pub fn stop_on_signals(cancel: &Cancel) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let refused = |e: std::io::Error| Error::invalid(format!("cannot listen for Ctrl-C: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let (mut interrupt, mut terminate) = runtime
        .block_on(async { Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)) })
        .map_err(refused)?;
    let cancel = cancel.clone();
    let listen = move || {
        runtime.block_on(async {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if cancel.requested() {
                    // Outside programs lead groups of their own, which no terminal ends with this one.
                    crate::kind::kill_all();
                    std::process::exit(130);
                }
                cancel.request();
            }
        })
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(refused)?;
    Ok(())
}
