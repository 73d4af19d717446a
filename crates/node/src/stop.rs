//! What tells a process to stop.

use std::io::Read;
use tokio::sync::oneshot;

/// SIGINT or SIGTERM.
pub async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let mut terminate = terminate.expect("a handler for SIGTERM can be set");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.expect("a handler for SIGINT can be set");
        }
        _ = terminate.recv() => {}
    }
}

/// The end of standard input: whoever started this process is gone, or wants it to stop.
pub async fn stdin_ended() {
    let (tell, ended) = oneshot::channel();
    // A thread of its own: a read of standard input cannot be cancelled, and dies with the process.
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut ignored = [0; 64];
            // An error is an end as well.
            while matches!(std::io::stdin().read(&mut ignored), Ok(1..)) {}
            let _ = tell.send(());
        })
        .expect("the system starts a thread");
    // An error says that the thread is gone, which means the same.
    let _ = ended.await;
}
